"""What clients of a relay keep: everything that they were ever told, and what they asked for.

A request that had no answer may have had its effect: so what was *wanted* is kept apart from
what was *answered*.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from bistro.clock import SystemClock
from bistro.instant import UnixMillis
from bistro.wire.receipt import Receipt
from tests.crash.connections import Asked, Left
from tests.crash.relays.town import Fragment, Key


@dataclass(frozen=True, slots=True)
class Held:
    """A receipt.

    Attributes:
        fragment: What was sent.
        upload: The upload's path.
        text: The proof.
        asked: When and how it came.
    """

    fragment: Fragment
    upload: str
    text: str
    asked: Asked

    @property
    def hold_until(self) -> UnixMillis:
        """Until when the relay promised to hold it."""
        return Receipt.parse(self.text).entry.hold_until


@dataclass(frozen=True, slots=True)
class Told:
    """An offset; the upload is incomplete."""

    fragment: Fragment
    upload: str
    offset: int
    asked: Asked


@dataclass(frozen=True, slots=True)
class Ended:
    """That an upload was given up, as its client wished."""

    upload: str
    asked: Asked


@dataclass(frozen=True, slots=True)
class Released:
    """That a release was taken."""

    fragment: Fragment
    asked: Asked


@dataclass(frozen=True, slots=True)
class Ordered:
    """That the command for a takedown has ended well."""

    keys: frozenset[Key]
    asked: Asked


@dataclass(frozen=True, slots=True)
class Listed:
    """All rows that were staged, as far as the collector had read.

    Attributes:
        cursor: The last one.
        keys: Every fragment that it has ever seen up to there.
        asked: Of the last answer.
    """

    cursor: int
    keys: frozenset[Key]
    asked: Asked


@dataclass
class RelayMemory:
    """All of it.

    Attributes:
        life: Number of the present life.
        asked_at: When a receipt for a fragment was first asked for.
        release_wanted: Fragments whose release was asked for.
        takedown_wanted: Fragments of which somebody began to order that they are taken down.
        end_wanted: Uploads that may have ended without a receipt, as their clients wished or
            deserved.
    """

    life: int = 0
    held: list[Held] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    released: list[Released] = field(default_factory=list)
    listed: list[Listed] = field(default_factory=list)
    ordered: list[Ordered] = field(default_factory=list)
    asked_at: dict[Key, UnixMillis] = field(default_factory=dict)
    release_wanted: set[Key] = field(default_factory=set)
    takedown_wanted: set[Key] = field(default_factory=set)
    end_wanted: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """Everything that a client was told."""
        rest = len(self.ended) + len(self.released) + len(self.listed)
        return len(self.held) + len(self.told) + rest

    def may_be_gone(self, key: Key) -> bool:
        """Whether a fragment with a receipt need not be there: somebody said so, or it is time."""
        return key in self.release_wanted or self.may_be_refused(key)

    def may_be_refused(self, key: Key) -> bool:
        """Whether the relay need not know any more that it had a fragment, or was to have it."""
        if key in self.takedown_wanted:
            return True
        holds = [one.hold_until for one in self.held if one.fragment.key == key]
        return bool(holds) and max(holds) < SystemClock().now()

    @property
    def held_keys(self) -> set[Key]:
        """Fragments that somebody has a receipt for."""
        return {one.fragment.key for one in self.held}

    def open_uploads(self) -> dict[str, Told]:
        """The highest offset of every upload that should go on."""
        highest: dict[str, Told] = {}
        for one in self.told:
            if one.upload not in highest or one.offset > highest[one.upload].offset:
                highest[one.upload] = one
        done = {one.upload for one in self.held} | self.end_wanted
        return {path: one for path, one in highest.items() if path not in done}

    def copy(self) -> Self:
        """The same, to go on from."""
        return self.until(Left({}, 0))

    def until(self, left: Left) -> Self:
        """What was known when this much had left in the present life.

        What was wanted stays: the request may have been on its way before.
        """

        def was_sent(one: Held | Told | Ended | Released | Ordered | Listed) -> bool:
            return one.asked.was_sent(self.life, left)

        return type(self)(
            life=self.life,
            held=list(filter(was_sent, self.held)),
            told=list(filter(was_sent, self.told)),
            ended=list(filter(was_sent, self.ended)),
            released=list(filter(was_sent, self.released)),
            listed=list(filter(was_sent, self.listed)),
            ordered=list(filter(was_sent, self.ordered)),
            asked_at=dict(self.asked_at),
            release_wanted=set(self.release_wanted),
            takedown_wanted=set(self.takedown_wanted),
            end_wanted=set(self.end_wanted),
        )
