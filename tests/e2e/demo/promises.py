"""The promises that the demo checks: named before anything is tried, so that none is forgotten.

A promise that was never examined counts as broken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

_LONGEST: Final = 320


class Promise(Enum):
    """What Bistro promises; the value says it to people."""

    TICKETS = "Every filing that came in time has a ticket of that time, signed and logged"
    LATE = "The filing that came too late was refused, and its filer can prove the attempt"
    EARLY = "Nothing can be opened before the deadline"
    STAGED = "Enough relays signed receipts for every filing, although one was killed"
    KILLED = "The relay killed in the middle of an upload kept all that it had signed for"
    UNREADABLE = "No relay ever held anything readable: no file name, no filer, no content"
    COLLECTED = "The destination collected every filing, and released the relays"
    OPENED = "Every filing in time was opened, byte for byte as its filer had it"
    FILERS_EVIDENCE = "Every filer's evidence verifies offline"
    INBOX_EVIDENCE = "Every evidence file of the destination verifies offline"
    MINUTES = "The signed minutes count every ticket, and every filer knows the outcome"
    RECONCILED = "Every ticket is accounted for: nothing is missing, nothing is extra"
    DAEMONS = "No daemon stopped by itself, and all ended when asked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of examining one promise.

    Attributes:
        faults: Everything that broke it; none if it was kept.
        detail: What was examined, in figures.
    """

    promise: Promise
    faults: tuple[str, ...]
    detail: str

    @property
    def is_kept(self) -> bool:
        """Whether nothing broke it."""
        return not self.faults


@dataclass(slots=True)
class Verdicts:
    """The verdicts so far, in the order in which they were reached."""

    _faults: dict[Promise, list[str]] = field(default_factory=dict)
    _details: dict[Promise, list[str]] = field(default_factory=dict)

    def examined(self, promise: Promise, faults: Iterable[str], detail: str = "") -> Verdict:
        """Write down an examination; a promise examined twice must be kept both times."""
        self._faults.setdefault(promise, []).extend(map(shortened, faults))
        details = self._details.setdefault(promise, [])
        if detail:
            details.append(shortened(detail))
        return self.verdict(promise)

    def verdict(self, promise: Promise) -> Verdict:
        """The verdict on one promise."""
        if promise not in self._faults:
            return Verdict(promise, ("it was not examined: the demo did not get that far",), "")
        return Verdict(promise, tuple(self._faults[promise]), "; ".join(self._details[promise]))

    @property
    def all(self) -> tuple[Verdict, ...]:
        """One verdict for every promise there is."""
        return tuple(self.verdict(promise) for promise in Promise)

    @property
    def are_kept(self) -> bool:
        """Whether every single promise was examined and kept."""
        return all(verdict.is_kept for verdict in self.all)


def shortened(text: str) -> str:
    """The text on one line; of a long one the beginning and the end."""
    line = " ".join(text.split())
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 3]} … {line[-(_LONGEST - _LONGEST // 3) :]}"
