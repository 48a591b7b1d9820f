"""What clients of a relay keep: everything that they were ever told, and what they asked for.

A request that had no answer may have had its effect: so what was *wanted* is kept apart from
what was *answered*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from bistro.instant import UnixMillis
from tests.crash.connections import Asked
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
        end_wanted: Uploads that may have ended without a receipt, as their clients wished or
            deserved.
    """

    life: int = 0
    held: list[Held] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    released: list[Released] = field(default_factory=list)
    listed: list[Listed] = field(default_factory=list)
    asked_at: dict[Key, UnixMillis] = field(default_factory=dict)
    release_wanted: set[Key] = field(default_factory=set)
    end_wanted: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """Everything that a client was told."""
        rest = len(self.ended) + len(self.released) + len(self.listed)
        return len(self.held) + len(self.told) + rest

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
        return self.until({})

    def until(self, sent: Mapping[int, int]) -> Self:
        """What was known when this much had been sent in the present life.

        What was wanted stays: the request may have been on its way before.
        """

        def was_sent(one: Held | Told | Ended | Released | Listed) -> bool:
            return one.asked.was_sent(self.life, sent)

        return type(self)(
            life=self.life,
            held=list(filter(was_sent, self.held)),
            told=list(filter(was_sent, self.told)),
            ended=list(filter(was_sent, self.ended)),
            released=list(filter(was_sent, self.released)),
            listed=list(filter(was_sent, self.listed)),
            asked_at=dict(self.asked_at),
            release_wanted=set(self.release_wanted),
            end_wanted=set(self.end_wanted),
        )
