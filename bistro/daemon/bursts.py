"""Requests that are read in one pass of the event loop and answered together, in columns.

At a deadline thousands of connections ask for the same small thing. An object, a callback and
a look at the clock for each costs more than the answer. So requests of one size to one place
wait until the loop has read everything that was readable, and go on as one ``Burst``: a list
of connections beside a list of bodies.

All of them count as received when the pass has ended: never before their last byte had been
read, and later by no more than the pass took.

Source: docs/spec/ticketing.md, the batch; docs/decisions/0019-tickets-in-columns.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from bistro.errors import BistroError
from bistro.instant import UnixMillis

Answer = bytes | BistroError
"""The body of a good answer, or the error to report."""


class Spelling(Protocol):
    """Bodies of answers that are spelled where they are sent, with what stands before them.

    Copying a body once more takes as long as half of spelling it.
    """

    def spell(self, numbered: bytes, before: Callable[[int], bytes]) -> list[bytes]:
        """All of them, each behind ``numbered``, its number, and what its size asks for.

        Args:
            numbered: Stands before everything; four hexadecimal digits follow, from 0 on.
            before: What stands before a body of so many bytes.
        """
        ...


class Bodies:
    """Bodies that are known already.

    Args:
        bodies: One for each who asked.
    """

    __slots__ = ("_bodies",)

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self._bodies = bodies

    def spell(self, numbered: bytes, before: Callable[[int], bytes]) -> list[bytes]:
        """As ``Spelling``."""
        heads = {size: before(size) for size in set(map(len, self._bodies))}
        return [
            b"%b%04x%b%b" % (numbered, number, heads[len(body)], body)
            for number, body in enumerate(self._bodies)
        ]


class Guest(ABC):
    """A connection."""

    __slots__ = ()

    @abstractmethod
    def send(self, data: bytes, *, is_last: bool, now_s: float) -> None:
        """Send an answer, and go on with the next request or close."""

    @abstractmethod
    def check(self, now_s: float) -> None:
        """Keep the time limits."""

    @abstractmethod
    def close_if_idle(self) -> None:
        """Close unless a request is being answered."""

    @abstractmethod
    def abort(self) -> None:
        """Close without waiting for anything."""


Spelled = list[bytes]
"""Answers of a burst as they are sent."""


class Replies(Protocol):
    """Sends the answers of bursts."""

    def spell(self, answers: Spelling) -> Spelled:
        """Spell answers that are sent later."""
        ...

    def tell(self, guest: Guest, since_s: float, answer: Answer) -> None:
        """Have an answer sent soon."""

    def tell_all(
        self,
        guests: Sequence[Guest | None],
        since_s: float,
        answers: Spelling | Spelled | BistroError,
    ) -> None:
        """Send answers now; ``None`` is somebody who has gone, or was answered."""


class Burst:
    """Requests that are read, and mostly answered, together.

    Args:
        replies: Sends the answers.

    Attributes:
        guests: Who asked; ``None`` for who has gone, or was answered.
        bodies: What they sent, in the same order.
        received_at: When they were received.
        since_s: The same by the event loop's clock.
        has_left: Whether somebody has gone.
    """

    __slots__ = (
        "__weakref__",
        "_replies",
        "bodies",
        "guests",
        "has_left",
        "received_at",
        "since_s",
    )

    def __init__(self, replies: Replies) -> None:
        self.guests: list[Guest | None] = []
        self.bodies: list[bytes] = []
        self.received_at = UnixMillis(0)
        self.since_s = 0.0
        self.has_left = False
        self._replies = replies

    @property
    def waiting_count(self) -> int:
        """How many wait for their answer."""
        return len(self.guests) - self.guests.count(None)

    def leave(self, guest: Guest) -> None:
        """One does not wait any more."""
        if guest in self.guests:
            self.guests[self.guests.index(guest)] = None
            self.has_left = True

    def refuse(self, guest: Guest, error: BistroError) -> None:
        """One is not to wait any longer."""
        self.leave(guest)
        self._replies.tell(guest, self.since_s, error)

    def spell(self, answers: Spelling) -> Spelled:
        """What ``tell_all`` takes, made ahead of the moment at which it may be told."""
        return self._replies.spell(answers)

    def tell_all(self, places: Sequence[int], answers: Spelling | Spelled | BistroError) -> None:
        """Answer some of them now; whoever was answered or has gone hears nothing.

        Args:
            places: Whom, in rising order.
            answers: One for each place, or one error for all.
        """
        if len(places) == len(self.guests):
            guests, self.guests = self.guests, [None] * len(places)
        else:
            guests = [self.guests[place] for place in places]
            for place in places:
                self.guests[place] = None
        self._replies.tell_all(guests, self.since_s, answers)
