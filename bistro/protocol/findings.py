"""Findings: what checking evidence has shown, in plain words, each with who vouches for it.

| state | meaning | counts against the file |
|---|---|---|
| ok | it is in the file and holds | no |
| absent | it is not in the file; the text says what that means | no |
| open | it cannot be decided from the file; the text says how to decide it | no |
| failed | it is in the file and does not hold, or could not be checked | yes |

Source: docs/spec/evidence.md, checking.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType

from bistro.errors import BistroError


class State(StrEnum):
    """What a check came to."""

    OK = "ok"
    ABSENT = "absent"
    OPEN = "open"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one part.

    Attributes:
        part: The part of the evidence, such as ``ticket``.
        text: A plain sentence.
        by: Who vouches for it, with the key where there is one; empty where nobody does.
    """

    state: State
    part: str
    text: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found, in the order it was checked.

    Attributes:
        needed: Parts each of which must have been found ok.
    """

    findings: tuple[Finding, ...]
    needed: tuple[str, ...]

    @property
    def exit_ok(self) -> bool:
        """Whether everything that is claimed holds: exit code 0, otherwise 4."""
        held = {finding.part for finding in self.findings if finding.state is State.OK}
        return held.issuperset(self.needed) and not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """What does not hold."""
        return tuple(finding for finding in self.findings if finding.state is State.FAILED)


@dataclass(slots=True)
class Findings:
    """Collects findings while a file is checked.

    Errors become findings here and nowhere else in the rules: a part that does not hold is a
    result, and the other parts are still worth checking.
    """

    found: list[Finding] = field(default_factory=list)

    def ok(self, part: str, text: str, *, by: str = "") -> None:
        """The part holds."""
        self.found.append(Finding(State.OK, part, text, by))

    def absent(self, part: str, text: str) -> None:
        """The part is not in the file."""
        self.found.append(Finding(State.ABSENT, part, text))

    def open(self, part: str, text: str) -> None:
        """The file alone cannot decide this."""
        self.found.append(Finding(State.OPEN, part, text))

    def failed(self, part: str, text: str) -> None:
        """The part does not hold."""
        self.found.append(Finding(State.FAILED, part, text))

    def checking(self, part: str) -> Checking:
        """Turn the first error of a ``with`` block into a failed finding about ``part``."""
        return Checking(self, part)

    def has_failed(self, part: str) -> bool:
        """Whether something about ``part`` does not hold."""
        return any(one.part == part and one.state is State.FAILED for one in self.found)


@dataclass(frozen=True, slots=True)
class Checking:
    """The block of ``Findings.checking``: a deliberate error ends it and is a finding."""

    findings: Findings
    part: str

    def __enter__(self) -> None:
        """Begin to check."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Swallow exactly the deliberate errors: a bug must not pass for a finding."""
        if isinstance(error, BistroError):
            self.findings.failed(self.part, error.message)
            return True
        return False
