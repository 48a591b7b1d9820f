"""What the client saw, as a file: one JSON line about the run, then one for each filing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Answer = Literal["ticket", "refusal", "none"]


@dataclass(slots=True)
class Record:
    """What became of one filing.

    Attributes:
        number: The filing's.
        due_s: When it was to be asked for, seconds of the window.
        late_s: How long after that the client began: the fault of the generator.
        asked_at: When it began, UTC milliseconds.
        took_s: From ``due_s`` to the whole answer; None without one.
        promise: The text of the ticket or refusal.
        attempts: Requests, the first included.
        problem: Why the last attempt that failed did so.
    """

    number: int
    due_s: float
    late_s: float = 0.0
    asked_at: int = 0
    took_s: float | None = None
    answer: Answer = "none"
    promise: str = ""
    attempts: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """What the client saw.

    Attributes:
        busy: The client's own CPU time as a share of the time that passed.
        reads: How status reads were answered, by HTTP status; 0: not at all.
        reads_s: How long the answered ones took, ascending.
        postponed: How attempts were put off, by error code.
    """

    records: tuple[Record, ...]
    busy: float
    reads: dict[int, int] = field(default_factory=dict)
    reads_s: tuple[float, ...] = ()
    postponed: dict[str, int] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """Write everything to ``file``."""
        head = {
            "busy": self.busy,
            "reads": list(self.reads.items()),
            "reads_s": self.reads_s,
            "postponed": self.postponed,
        }
        lines: Iterable[object] = (head, *map(asdict, self.records))
        with file.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(line) + "\n" for line in lines)

    @classmethod
    def read(cls, file: Path) -> Run:
        """What ``write`` wrote."""
        with file.open(encoding="utf-8") as stream:
            head = json.loads(next(stream))
            records = tuple(Record(**json.loads(line)) for line in stream)
        return cls(
            records,
            busy=head["busy"],
            reads=dict(map(tuple, head["reads"])),
            reads_s=tuple(head["reads_s"]),
            postponed=head["postponed"],
        )
