"""Receipts: a relay's signed promise to hold a fragment until a time; holds: to hold it longer.

Source: docs/spec/staging.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from bistro.crypto.signing import VerifierKey
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.entry import Entry, HeldEntry, ReceiptEntry
from bistro.wire.promise import Promise

CustodyT = TypeVar("CustodyT", ReceiptEntry, HeldEntry)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Custody(Promise[CustodyT]):
    """What receipts and holds have in common."""

    @property
    def relay(self) -> str:
        """The name that it gives its relay; :meth:`verify` compares it with the key."""
        return self.entry.relay

    @property
    def call_origin(self) -> str:
        """The call whose fragment is held."""
        return self.entry.call_origin

    @property
    def fragment_index(self) -> int:
        """Which of the envelope's fragments is held."""
        return self.entry.index

    @property
    def hold_until(self) -> UnixMillis:
        """Until when the relay promises to hold it."""
        return self.entry.hold_until

    def verify(
        self, relay_key: VerifierKey, origin: Origin | str, commitment: bytes | None = None
    ) -> Checkpoint:
        """The checkpoint that covers the entry.

        Args:
            relay_key: The relay's vkey from the terms, named as the relay.
            origin: The call, ``<server>/<call>``.
            commitment: The commitment whose fragment is held; any, when None.

        Raises:
            VerificationError: Another relay, call or commitment, a bad signature or path.
        """
        return self._verify(
            relay_key, Origin.parse(str(origin)).custody(relay_key.name), commitment
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(_Custody[ReceiptEntry]):
    """A fragment is in the custody ledger of a relay."""

    NAME = "receipt"
    ENTRIES: ClassVar[tuple[type[Entry], ...]] = (ReceiptEntry,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(_Custody[HeldEntry]):
    """A relay holds a fragment longer than its receipt says."""

    NAME = "held"
    ENTRIES: ClassVar[tuple[type[Entry], ...]] = (HeldEntry,)
