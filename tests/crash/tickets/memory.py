"""What clients keep: every promise and every checkpoint that they were ever given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Self

from bistro.instant import UnixMillis
from tests.crash.connections import Asked, Left

LedgerName = tuple[str, Literal["log", "refusals"]]
"""The call, and which of its ledgers."""


@dataclass(frozen=True, slots=True)
class Held:
    """A ticket or a refusal.

    Attributes:
        ledger: Which ledger promises it.
        commitment: What was asked for.
        text: The proof.
        known_size: The largest size of that ledger that any client knew when it asked.
        asked: When and how it came.
    """

    ledger: LedgerName
    commitment: bytes
    text: str
    known_size: int
    asked: Asked


@dataclass(frozen=True, slots=True)
class Seen:
    """A signed checkpoint that was fetched by itself; fields as of ``Held``."""

    ledger: LedgerName
    note: bytes
    known_size: int
    asked: Asked


@dataclass(frozen=True, slots=True)
class Shown:
    """What was served of an opening, and stays as it is.

    Attributes:
        path: Where.
        fact: What of it may never change.
        asked: As of ``Held``.
    """

    path: str
    fact: bytes
    asked: Asked


@dataclass
class TicketMemory:
    """All of it.

    Attributes:
        shown: What anybody saw of an opening.
        opened: Ends of ``open`` that said that it was done.
        life: Number of the present life.
        asked_at: When a commitment of a call was first asked for.
        sizes: The largest size of a ledger that anybody knows.
    """

    life: int = 0
    held: list[Held] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    opened: list[Asked] = field(default_factory=list)
    asked_at: dict[tuple[str, bytes], UnixMillis] = field(default_factory=dict)
    sizes: dict[LedgerName, int] = field(default_factory=dict)

    def hold(self, held: Held) -> None:
        """Keep a promise."""
        self.held.append(held)
        self._know(held.ledger, size_of(held.text.partition("\n\n")[2]))

    def see(self, seen: Seen) -> None:
        """Keep a checkpoint."""
        self.seen.append(seen)
        self._know(seen.ledger, size_of(seen.note.decode(errors="replace")))

    def _know(self, ledger: LedgerName, size: int) -> None:
        self.sizes[ledger] = max(size, self.sizes.get(ledger, 0))

    def until(self, left: Left) -> Self:
        """What was known when this much had left in the present life."""
        known = type(self)(life=self.life, asked_at=dict(self.asked_at))
        for held in self.held:
            if held.asked.was_sent(self.life, left):
                known.hold(held)
        for seen in self.seen:
            if seen.asked.was_sent(self.life, left):
                known.see(seen)
        known.shown = [one for one in self.shown if one.asked.was_sent(self.life, left)]
        known.opened = [one for one in self.opened if one.was_sent(self.life, left)]
        return known


def size_of(note: str) -> int:
    """The size that a checkpoint's second line says; 0 if it says none."""
    lines = note.split("\n", 2)
    return int(lines[1]) if len(lines) > 1 and lines[1].isdigit() else 0
