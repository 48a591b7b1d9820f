"""Tickets: the destination's proof that a commitment arrived at a time.

Also the destination's other promises from the same log: which terms came into force, that
the call closed, that opening began.

Source: docs/spec/ticketing.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bistro.crypto.signing import VerifierKey
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.entry import (
    ClosedEntry,
    Entry,
    OpeningEntry,
    PostmarkedEntry,
    TermsEntry,
    TicketEntry,
)
from bistro.wire.promise import EntryT, Promise


class _LogPromise(Promise[EntryT]):
    """A promise from the log of a call."""

    __slots__ = ()

    def verify(
        self, log_key: VerifierKey, origin: Origin | str, commitment: bytes | None = None
    ) -> Checkpoint:
        """The checkpoint that covers the entry.

        Args:
            log_key: ``keys.log`` of the call's terms, under any name.
            origin: The call, ``<server>/<call>``.
            commitment: The hash that the entry must carry; any, when None.

        Raises:
            VerificationError: Another call or hash, a bad signature or path.
        """
        return self._verify(log_key, str(origin), commitment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket(_LogPromise[TicketEntry | PostmarkedEntry]):
    """A commitment is in the log of a call."""

    NAME = "ticket"
    ENTRIES: ClassVar[tuple[type[Entry], ...]] = (TicketEntry, PostmarkedEntry)

    @property
    def effective_at(self) -> UnixMillis:
        """The time that decides about the deadline: of the postmarks, where those admitted it."""
        if isinstance(self.entry, PostmarkedEntry):
            return self.entry.at
        return self.entry.time


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsInForce(_LogPromise[TermsEntry]):
    """A version of the terms is in the log of its call."""

    NAME = "terms proof"
    ENTRIES: ClassVar[tuple[type[Entry], ...]] = (TermsEntry,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed(_LogPromise[ClosedEntry]):
    """The call closed."""

    NAME = "closed proof"
    ENTRIES: ClassVar[tuple[type[Entry], ...]] = (ClosedEntry,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening(_LogPromise[OpeningEntry]):
    """Opening began."""

    NAME = "opening proof"
    ENTRIES: ClassVar[tuple[type[Entry], ...]] = (OpeningEntry,)
