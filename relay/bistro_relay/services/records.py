"""What the custody ledger says of one fragment, for whoever knows its upload's id.

Source: docs/spec/relay-life.md, what is known of a fragment.
"""

from __future__ import annotations

from dataclasses import dataclass

from bistro.errors import UnknownObjectError
from bistro.wire.document import encode_json
from bistro_relay.services.ledgers import CustodyLedgers, held_key, released_key
from bistro_relay.store.uploads import UploadStore


@dataclass(frozen=True, slots=True)
class Record:
    """Proof texts under the newest checkpoint.

    Attributes:
        receipt: The promise.
        held: What prolonged it last, if anything did.
        released: What ended it, if anything has.
    """

    receipt: bytes
    held: bytes | None
    released: bytes | None

    def encode(self) -> bytes:
        """As it is served, canonical JSON."""
        return encode_json(
            {
                "version": 1,
                "receipt": self.receipt.decode(),
                "held": None if self.held is None else self.held.decode(),
                "released": None if self.released is None else self.released.decode(),
            }
        )


class Records:
    """Looks promises up.

    Args:
        uploads: Rows.
        ledgers: Where promises are written.
    """

    def __init__(self, uploads: UploadStore, ledgers: CustodyLedgers) -> None:
        self._uploads = uploads
        self._ledgers = ledgers

    async def find(self, upload_id: str) -> Record:
        """All that was promised of a fragment.

        Raises:
            UnknownObjectError: There is no such upload, or no receipt of it.
        """
        upload = await self._uploads.find(upload_id)
        until = None if upload is None else upload.transfer.hold_until
        if upload is None or until is None:
            raise UnknownObjectError("there is no receipt of such an upload")
        custody = await self._ledgers.of(upload.origin)
        key = upload.commitment, upload.index
        receipt = await custody.find_receipt(*key)
        if receipt is None:
            raise UnknownObjectError("there is no receipt of such an upload")
        held = await custody.ledger.find(held_key(*key, until))
        released = await custody.ledger.find(released_key(*key))
        return Record(
            receipt.proof,
            None if held is None else held.proof,
            None if released is None else released.proof,
        )
