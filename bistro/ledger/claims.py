"""What waits for a place in a ledger, and how it hears about it.

A ``Claim`` is told its result by a call, so that thousands of them cost no task or future
each. A ``Draft`` is the plain description that ``Sequencer.submit`` makes one of. A ``Lot`` is
many who want the same kind of entry at the same moment, in columns instead of objects; the
few of them that are not treated alike it gives up as claims.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bistro.errors import BistroError
from bistro.instant import UnixMillis
from bistro.ledger.appended import Appended, Stamped

Result = Appended | BistroError


class Claim(ABC):
    """Somebody who wants an entry.

    Attributes:
        key: What the entry is unique by, 1-255 bytes; ``None``: each is a new entry.
        received_at: When the request's last byte had been read.
        is_barrier: Whether its batch ends with it, so that later claims are built only when it
            is durable and ``confirm`` has run: for entries that change the rules.
        is_done: Whether it was told, or nobody waits any more; it is not stamped then.
        count: How many entries it asks for.
    """

    __slots__ = ("is_barrier", "is_done", "key", "received_at")
    count: ClassVar[int] = 1

    def __init__(
        self, key: bytes | None, received_at: UnixMillis, *, is_barrier: bool = False
    ) -> None:
        self.key = key
        self.received_at = received_at
        self.is_barrier = is_barrier
        self.is_done = False

    @abstractmethod
    def build(self, time: UnixMillis) -> bytes:
        """The entry for the time that it gets.

        Raises:
            BistroError: Such as ``DeadlinePassedError``; it refuses this claim alone.
        """

    def confirm(self, appended: Appended) -> None:  # noqa: B027 - most have nothing to do
        """Called once a barrier's entry is durable, before anything that comes later is built.

        Not for duplicates. It must not raise or block.
        """

    def is_wanted(self) -> bool:
        """Whether somebody waits for it; else it is not stamped or proven."""
        return not self.is_done

    def tell(self, result: Result) -> None:
        """Settle, unless that is done or nobody waits any more."""
        if not self.is_done:
            self.is_done = True
            self.settle(result)

    def decline(self, error: BistroError) -> None:
        """As ``tell``."""
        self.tell(error)

    @abstractmethod
    def settle(self, result: Result) -> None:
        """Hear the result, which is durable; called once, through ``tell``; never raises or blocks.

        One error may be told to many: it is for looking at, and copied before it is raised.
        """


class Lot(ABC):
    """Many who want entries of one kind, received at the same moment.

    Attributes:
        keys: What each entry is unique by; changed by ``prune`` and ``part`` only.
        received_at: When the last byte of all had been read.
        is_done: Whether it was told.
    """

    __slots__ = ("is_done", "keys", "received_at")

    def __init__(self, keys: list[bytes], received_at: UnixMillis) -> None:
        self.keys = keys
        self.received_at = received_at
        self.is_done = False

    @property
    def count(self) -> int:
        """How many entries it asks for."""
        return len(self.keys)

    @abstractmethod
    def prune(self) -> None:
        """Leave out those for whom nobody waits any more."""

    @abstractmethod
    def part(self, positions: Sequence[int]) -> list[Claim]:
        """Give up some, as claims in this order; the others stay in theirs.

        Args:
            positions: Where their keys stand now, in rising order.
        """

    @abstractmethod
    def build(self, time: UnixMillis) -> list[bytes]:
        """The entries for the time that they get, one for each key.

        Raises:
            BistroError: It refuses the whole lot, and nothing else.
        """

    def prepare(self, stamped: Stamped, begin: int) -> None:  # noqa: B027 - need not be used
        """Prepare to settle while the batch becomes durable; nothing of it may be told yet."""

    def tell(self, stamped: Stamped, begin: int) -> None:
        """Settle, unless that is done.

        Args:
            stamped: The batch, which is durable.
            begin: Where in it the first one stands.
        """
        if not self.is_done:
            self.is_done = True
            self.settle(stamped, begin)

    def decline(self, error: BistroError) -> None:
        """Hear why none was stamped, unless that is settled."""
        if not self.is_done:
            self.is_done = True
            self.fail(error)

    @abstractmethod
    def settle(self, stamped: Stamped, begin: int) -> None:
        """Hear that all are durable, through ``tell``; never raises or blocks."""

    @abstractmethod
    def fail(self, error: BistroError) -> None:
        """Hear why none was stamped, through ``decline``; never raises or blocks.

        One error may be told to many, as with a claim.
        """


@dataclass(frozen=True, slots=True)
class Draft:
    """What somebody wants to have in a ledger.

    Attributes:
        key: As of ``Claim``.
        received_at: As of ``Claim``.
        build: As of ``Claim``.
        is_barrier: As of ``Claim``.
        on_durable: What ``confirm`` calls.
    """

    key: bytes | None
    received_at: UnixMillis
    build: Callable[[UnixMillis], bytes]
    is_barrier: bool = False
    on_durable: Callable[[Appended], None] | None = None


class DraftClaim(Claim):
    """One of several drafts whose results are awaited together."""

    __slots__ = ("_draft", "_gathering", "_place")

    def __init__(self, draft: Draft, gathering: Gathering, place: int) -> None:
        super().__init__(draft.key, draft.received_at, is_barrier=draft.is_barrier)
        self._draft = draft
        self._gathering = gathering
        self._place = place

    def build(self, time: UnixMillis) -> bytes:
        """As the draft says."""
        return self._draft.build(time)

    def confirm(self, appended: Appended) -> None:
        """As the draft says."""
        if self._draft.on_durable is not None:
            self._draft.on_durable(appended)

    def settle(self, result: Result) -> None:
        """Put the result in its place."""
        self._gathering.put(self._place, result)


class Gathering:
    """Collects the results of several drafts for one who awaits them.

    Attributes:
        claims: One for each draft, in order.
    """

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._results: dict[int, Result] = {}
        self._is_complete = asyncio.get_running_loop().create_future()
        self.claims = [DraftClaim(draft, self, place) for place, draft in enumerate(drafts)]
        self._wake()

    def put(self, place: int, result: Result) -> None:
        """Take the result of one draft."""
        self._results[place] = result
        self._wake()

    def _wake(self) -> None:
        if len(self._results) == len(self.claims) and not self._is_complete.done():
            self._is_complete.set_result(None)

    async def wait(self) -> list[Result]:
        """All results, in order; whoever goes away takes along what is not stamped yet."""
        try:
            await self._is_complete
        finally:
            for claim in self.claims:
                claim.is_done = True
        return [self._results[place] for place in range(len(self.claims))]
