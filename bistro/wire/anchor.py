"""Stamped checkpoints: how one is kept, and how one entry's place under it is handed out.

Both are canonical JSON. What is stamped is the SHA-256 of the checkpoint's text, which is the
signed note without its signatures.

| document | members |
|---|---|
| anchor | ``certificates``, ``checkpoint`` (a signed note), ``kind``, ``token`` |
| stamped entry | ``timestamps`` (1-16 of ``{certificates, token}``), ``witnessed`` (a proof) |

Source: docs/spec/timestamps.md, anchors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from bistro.crypto.digest import sha256
from bistro.crypto.keys import decode_base64
from bistro.crypto.signing import Note
from bistro.errors import FormatError
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.document import Fields, Json, decode_json, encode_json
from bistro.wire.lines import format_base64
from bistro.wire.proof import MAX_PROOF_SIZE

KIND: Final = "bistro/anchor/v1"
MAX_TIMESTAMPS: Final = 16
MAX_TOKEN_SIZE: Final = 65_536
MAX_CERTIFICATES: Final = 8
MAX_CERTIFICATE_SIZE: Final = 16_384
MAX_CHECKPOINT_SIZE: Final = 16_384
"""Bytes of a signed checkpoint: room for a dozen post-quantum cosignatures."""
MAX_ANCHOR_SIZE: Final = 400_000
MAX_STAMPED_SIZE: Final = 4_194_304


class Timestamp(NamedTuple):
    """An RFC 3161 token over a checkpoint, and certificates, the signer's first; all DER."""

    token: bytes
    certificates: tuple[bytes, ...]

    def document(self) -> dict[str, Json]:
        """The object that holds it."""
        return {
            "certificates": [format_base64(one) for one in self.certificates],
            "token": format_base64(self.token),
        }

    @classmethod
    def read(cls, fields: Fields) -> Timestamp:
        """The time stamp in an object, or ``FormatError``; nothing is verified."""
        timestamp = cls(
            token=fields.blob("token", MAX_TOKEN_SIZE, minimum=1),
            certificates=_read_certificates(fields),
        )
        fields.end()
        return timestamp


def _read_certificates(fields: Fields) -> tuple[bytes, ...]:
    texts = fields.texts(
        "certificates", MAX_CERTIFICATES, longest=2 * MAX_CERTIFICATE_SIZE, minimum=1
    )
    found = tuple(decode_base64("certificates", text) for text in texts)
    for one in found:
        if len(one) > MAX_CERTIFICATE_SIZE:
            raise FormatError(
                f"certificates: expected values of at most {MAX_CERTIFICATE_SIZE} bytes, "
                f"found {len(one)}"
            )
    return found


def stamped_digest(checkpoint_note: bytes) -> bytes:
    """What an authority stamps of a signed checkpoint: SHA-256 of its text."""
    return sha256(Note.parse(checkpoint_note).text)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A checkpoint and the stamp of an authority over it, not verified.

    Attributes:
        note: The signed checkpoint, verbatim.
        timestamp: Over the SHA-256 of its text.
    """

    note: bytes
    timestamp: Timestamp

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint in the note, whoever signed it."""
        return Checkpoint.parse(Note.parse(self.note).text)

    def encode(self) -> bytes:
        """The bytes of its file."""
        return encode_json(
            {"checkpoint": self.note.decode(), "kind": KIND, **self.timestamp.document()}
        )

    @classmethod
    def decode(cls, data: bytes) -> Anchor:
        """The anchor that ``data`` is the one encoding of.

        Raises:
            FormatError: Anything else.
        """
        fields = Fields("anchor", decode_json(data, MAX_ANCHOR_SIZE))
        fields.constant("kind", KIND)
        note = fields.text("checkpoint", MAX_CHECKPOINT_SIZE, minimum=1).encode()
        anchor = cls(note, Timestamp.read(fields))
        _ = anchor.checkpoint  # a note that is no checkpoint is malformed
        return anchor


@dataclass(frozen=True, slots=True)
class StampedEntry:
    """An entry's place under a stamped checkpoint: what evidence has slots for.

    Attributes:
        witnessed: The tlog-proof text.
        timestamps: Over the checkpoint in it.
    """

    witnessed: str
    timestamps: tuple[Timestamp, ...]

    def encode(self) -> bytes:
        """The bytes of the answer."""
        return encode_json(
            {
                "timestamps": [one.document() for one in self.timestamps],
                "witnessed": self.witnessed,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> StampedEntry:
        """The stamped entry that ``data`` is the one encoding of; nothing is verified.

        Raises:
            FormatError: Anything else.
        """
        fields = Fields("stamped entry", decode_json(data, MAX_STAMPED_SIZE))
        stamped = cls(
            witnessed=fields.text("witnessed", MAX_PROOF_SIZE, minimum=1),
            timestamps=tuple(
                Timestamp.read(one)
                for one in fields.objects("timestamps", MAX_TIMESTAMPS, minimum=1)
            ),
        )
        fields.end()
        return stamped
