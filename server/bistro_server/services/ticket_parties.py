"""Who asks for tickets, and hears the answers: one request of many items, or a burst of many.

Source: docs/spec/ticketing.md, request and answer, overload.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from bistro.daemon.buckets import Bucket
from bistro.daemon.bursts import Answer, Bodies, Burst
from bistro.errors import BistroError, NotOpenError, UnavailableError
from bistro.instant import UnixMillis
from bistro.ledger.proofs import ProofTexts
from bistro.protocol.backoff import Chooser
from bistro.wire import codec
from bistro.wire.plain_ticket import join_answers
from bistro.wire.ticketing import MAX_RETRY_MS, Postponed
from bistro_server.services.ledgers import CallLedgers

OPENING_JITTER_MS: Final = 2_000
"""Who asked before the opening comes back spread over this time."""

_RETRY_S: Final = 1.0
_MS_PER_S: Final = 1_000
_VARIANTS: Final = 16
_NOBODY: Final[frozenset[int]] = frozenset()


def later(error: UnavailableError, chooser: Chooser) -> UnavailableError:
    """The error with a time to come back: never all in the same second."""
    told = copy.copy(error)
    told.retry_after_s = (error.retry_after_s or _RETRY_S) * (1.0 + chooser.random())
    return told


class Asker(Protocol):
    """Who waits for the answer to one request.

    Attributes:
        address: Where from, for fairness only.
        bucket: What they may ask for, if that is limited.
    """

    address: str
    bucket: Bucket | None

    def tell(self, answer: Answer) -> None:
        """Hear the answer, once; must not raise or block."""


class Promises:
    """Tickets or refusals of a batch as answers, which are spelled where they are sent.

    Args:
        proofs: Of the whole batch.
        begin: The first one that is meant.
        end: Behind the last one.
        before: Makes an answer of a proof text of so many bytes that follows.
    """

    __slots__ = ("_before", "_begin", "_end", "_proofs")

    def __init__(
        self, proofs: ProofTexts, begin: int, end: int, before: Callable[[int], bytes]
    ) -> None:
        self._proofs = proofs
        self._begin = begin
        self._end = end
        self._before = before

    def spell_bare(self) -> list[bytes]:
        """The answers alone."""
        return self._proofs.spell(self._begin, self._end, self._before)

    def spell(self, numbered: bytes, before: Callable[[int], bytes]) -> list[bytes]:
        """As ``bistro.daemon.bursts.Spelling``."""

        def head(size: int) -> bytes:
            own = self._before(size)
            return before(len(own) + size) + own

        return self._proofs.spell(self._begin, self._end, head, numbered=numbered)


class Party(ABC):
    """Those who asked together.

    Args:
        ledgers: Of the call that is asked.
        chooser: Where jitter comes from.

    Attributes:
        ledgers: As given.
    """

    __slots__ = ("_chooser", "ledgers")

    def __init__(self, ledgers: CallLedgers, chooser: Chooser) -> None:
        self.ledgers = ledgers
        self._chooser = chooser

    @abstractmethod
    def gone(self) -> Collection[int]:
        """Places for whose answers nobody waits any more."""

    @abstractmethod
    def has_gone(self, place: int) -> bool:
        """Whether nobody waits any more for the answer at a place."""

    @abstractmethod
    def put(self, places: Sequence[int], answers: Sequence[bytes]) -> None:
        """Take encoded answers, one for each place."""

    def spell(self, promises: Promises) -> list[bytes]:
        """Tickets or refusals as ``put_spelled`` takes them, before they may be told."""
        return promises.spell_bare()

    def put_spelled(self, places: Sequence[int], spelled: list[bytes]) -> None:
        """Take tickets or refusals, one for each place."""
        self.put(places, spelled)

    def postpone(self, places: Sequence[int], received_at: UnixMillis, error: BistroError) -> None:
        """Take an error for which nothing was written at these places."""
        if isinstance(error, NotOpenError):
            first_ms, jitter_ms = self.ledgers.rules.opens - received_at, OPENING_JITTER_MS
        elif isinstance(error, UnavailableError):
            first_ms = jitter_ms = int((error.retry_after_s or _RETRY_S) * _MS_PER_S)
        else:
            first_ms = jitter_ms = 0
        # So many different answers that nobody can tell from the crowd when it comes back.
        answers = [
            self._postponed(error.code, first_ms + int(jitter_ms * self._chooser.random()))
            for _ in range(min(len(places), _VARIANTS if jitter_ms else 1))
        ]
        self.put(places, [answers[at % len(answers)] for at in range(len(places))])

    def _postponed(self, code: str, retry_ms: int) -> bytes:
        postponed = Postponed(code, max(0, min(MAX_RETRY_MS, retry_ms)))
        return codec.encode(postponed.value())


class Crowd(Party):
    """Many connections that asked for one ticket each.

    Args:
        ledgers: Of the call that is asked.
        chooser: Where jitter comes from.
        burst: What they asked.
    """

    __slots__ = ("_burst",)

    def __init__(self, ledgers: CallLedgers, chooser: Chooser, burst: Burst) -> None:
        super().__init__(ledgers, chooser)
        self._burst = burst

    def gone(self) -> Collection[int]:
        """Those who closed their connections, or heard that it took too long."""
        burst = self._burst
        if not burst.has_left:
            return _NOBODY
        return {place for place, guest in enumerate(burst.guests) if guest is None}

    def has_gone(self, place: int) -> bool:
        """Whether that one has."""
        return self._burst.guests[place] is None

    def put(self, places: Sequence[int], answers: Sequence[bytes]) -> None:
        """Answer them now."""
        self._burst.tell_all(places, Bodies(answers))

    def spell(self, promises: Promises) -> list[bytes]:
        """Whole answers."""
        return self._burst.spell(promises)

    def put_spelled(self, places: Sequence[int], spelled: list[bytes]) -> None:
        """Answer them now."""
        self._burst.tell_all(places, spelled)

    def postpone(self, places: Sequence[int], received_at: UnixMillis, error: BistroError) -> None:
        """Answer them now; with a problem where that is the service's, not theirs."""
        if isinstance(error, UnavailableError):
            self._burst.tell_all(places, later(error, self._chooser))
        else:
            super().postpone(places, received_at, error)


class Requested(Party):
    """One request, which waits until each of its items is answered.

    Args:
        ledgers: Of the call that is asked.
        chooser: Where jitter comes from.
        asker: Who is told.
        count: Number of items.
        is_bulk: Whether the answer is an array.
        on_end: Called once nobody waits any more.
    """

    __slots__ = ("_answers", "_asker", "_is_bulk", "_missing_count", "_on_end")

    def __init__(
        self,
        ledgers: CallLedgers,
        chooser: Chooser,
        asker: Asker,
        *,
        count: int,
        is_bulk: bool,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(ledgers, chooser)
        self._asker = asker
        self._answers = [b""] * count
        self._missing_count = count
        self._is_bulk = is_bulk
        self._on_end = on_end

    def leave(self) -> None:
        """Nobody waits any more: what is not stamped yet is not going to be."""
        if self._missing_count:
            self._missing_count = 0
            self._on_end()

    def gone(self) -> Collection[int]:
        """All or nobody."""
        return _NOBODY if self._missing_count else range(len(self._answers))

    def has_gone(self, place: int) -> bool:
        """Whether it has."""
        del place
        return not self._missing_count

    def _reply(self, answer: Answer) -> None:
        if self._missing_count:
            self.leave()
            self._asker.tell(answer)

    def put(self, places: Sequence[int], answers: Sequence[bytes]) -> None:
        """Keep the answers, and reply when none is missing."""
        for place, answer in zip(places, answers, strict=True):
            self._answers[place] = answer
        if self._missing_count > len(places):
            self._missing_count -= len(places)
        else:
            self._reply(join_answers(self._answers) if self._is_bulk else self._answers[0])

    def postpone(self, places: Sequence[int], received_at: UnixMillis, error: BistroError) -> None:
        """A request of one item hears of the service's problems as such."""
        if isinstance(error, UnavailableError) and not self._is_bulk:
            self._reply(later(error, self._chooser))
        else:
            super().postpone(places, received_at, error)
