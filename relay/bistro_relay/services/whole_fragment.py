"""One small fragment that came whole, between its arrival and its answer.

Source: docs/spec/staging.md, creation.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from bistro.crypto.treehash import tree_hash
from bistro.errors import BistroError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.ledger.appended import Appended
from bistro.ledger.sequencer import Claim as LedgerClaim
from bistro.ledger.sequencer import Result
from bistro.protocol.transfer import Transfer, TransferState
from bistro.wire.entry import ReceiptEntry, decode_entry
from bistro_relay.services.claims import Examined
from bistro_relay.services.custody import hold_until
from bistro_relay.services.ledgers import receipt_key
from bistro_relay.store.shared import Place
from bistro_relay.store.uploads import Upload


@dataclass(frozen=True, slots=True)
class Kept:
    """A fragment that is held.

    Attributes:
        id: Of its upload.
        size: Its bytes.
        receipt: The receipt's proof text.
    """

    id: str
    size: int
    receipt: bytes


Tell = Callable[[Kept | BistroError], None]
"""Hears how it ended; called once, never raises."""


class Whole(LedgerClaim):
    """A fragment, and its claim to a place in the ledger.

    Args:
        examined: Its claim.
        body: Its bytes, as many as the claim says.
        tell_end: Hears how it ended, once.
        now: When its last byte had been read.
        begun: Its upload, if that was created before: receiving still, its room reserved.
        on_settled: Called when the ledger has settled it, or it was refused before.

    Attributes:
        examined: As given.
        body: As given.
        begun: As given.
        ledger: The ledger's origin; set before the claim is enqueued.
        place: Its record, once it is durable.
        is_reserved: Whether room was reserved.
        result: What the ledger said, or why it was refused before.
    """

    __slots__ = (
        "_hashed",
        "_on_settled",
        "_tell_end",
        "_until",
        "begun",
        "body",
        "examined",
        "is_reserved",
        "ledger",
        "place",
        "result",
    )

    def __init__(
        self,
        examined: Examined,
        body: bytes | memoryview,
        tell_end: Tell,
        *,
        now: UnixMillis,
        on_settled: Callable[[Whole], None],
        begun: Upload | None = None,
    ) -> None:
        claim = examined.claim
        super().__init__(receipt_key(claim.commitment, claim.descriptor.index), now)
        self.examined = examined
        self.body = body
        self.begun = begun
        self.ledger = ""
        self.place: Place | None = None
        self.is_reserved = False
        self.result: Result | None = None
        self._tell_end: Tell | None = tell_end
        self._on_settled = on_settled
        self._until = UnixMillis(0)
        self._hashed: tuple[bytes, int] | None = None

    @property
    def origin(self) -> Origin:
        """The call."""
        return self.examined.claim.origin

    @property
    def size(self) -> int:
        """Bytes of the fragment."""
        return self.examined.claim.descriptor.size

    @property
    def missing_size(self) -> int:
        """Bytes that nobody knew of before it came whole."""
        return self.size if self.begun is None else self.begun.transfer.missing_size

    @property
    def fragment(self) -> tuple[bytes, int]:
        """Commitment and index."""
        return self.examined.claim.commitment, self.examined.claim.descriptor.index

    @property
    def is_fresh(self) -> bool:
        """Whether its receipt is new."""
        return isinstance(self.result, Appended) and not self.result.is_duplicate

    def hashed(self) -> tuple[bytes, int]:
        """Tree hash and CRC-32 of the bytes; asked again they are known."""
        if self._hashed is None:
            self._hashed = tree_hash(self.body), zlib.crc32(self.body)
        return self._hashed

    def build(self, time: UnixMillis) -> bytes:
        """The receipt."""
        claim = self.examined.claim
        self._until = hold_until(self.examined.terms)
        return ReceiptEntry(
            origin=self.ledger,
            time=time,
            digest=claim.commitment,
            index=claim.descriptor.index,
            size=claim.descriptor.size,
            fragment_hash=claim.descriptor.fragment_hash,
            hold_until=self._until,
        ).encode()

    def settle(self, result: Result) -> None:
        """Note the result; somebody else answers."""
        self.result = result
        self._on_settled(self)

    def answer(self, result: Kept | BistroError) -> None:
        """Say how it ended, unless that was said."""
        tell, self._tell_end = self._tell_end, None
        if tell is not None:
            tell(result)

    def upload(self, upload_id: str, now: UnixMillis) -> Upload:
        """The row of the fragment, held for as long as its receipt says."""
        if isinstance(self.result, Appended) and self.result.is_duplicate:
            entry = decode_entry(self.result.entry)
            self._until = entry.hold_until if isinstance(entry, ReceiptEntry) else self._until
        descriptor = self.examined.claim.descriptor
        transfer = Transfer(
            size=descriptor.size,
            fragment_hash=descriptor.fragment_hash,
            expires_at=now,
            offset=descriptor.size,
            state=TransferState.HELD,
            hold_until=self._until,
        )
        commitment, index = self.fragment
        encoded, place = self.examined.encoded, self.place
        return Upload(upload_id, self.origin, commitment, index, encoded, transfer, place)
