"""Evidence: one file with everything a third party needs to check a submission offline.

Canonical JSON. Notes and proofs stand in it verbatim as text, bytes as base64. A part that does
not exist yet is named in ``absent``, so that nobody takes a missing part for an overlooked one.
This module knows the parts' sizes only; what they say is ``bistro.protocol.verification``'s.

| part | form | what it is |
|---|---|---|
| ``terms_key`` | vkey | the server's key as the filer pinned it |
| ``rotations`` | notes | terms notes that changed that key, oldest first |
| ``terms`` | ``[{note, proof}]`` | every version with its tlog-proof, oldest first |
| ``submission`` | bytes | ``submission.bin``: header and filer signature |
| ``manifest`` | bytes | the manifest, canonical JSON |
| ``layout`` | bytes | the encoded layout |
| ``descriptors`` | list of bytes | the encoded descriptors, by index |
| ``ticket`` | proof | the ticket |
| ``refusal`` | proof | the refusal: proof of an attempt |
| ``witnessed`` | proof | the ticket's entry under a witnessed or stamped checkpoint |
| ``timestamps`` | ``[{token, certificates}]`` | RFC 3161 tokens and their certificates |
| ``receipts`` | proofs | the relays' receipts |
| ``held`` | proofs | entries by which relays prolonged what receipts promised |
| ``admission`` | bytes | the admission of a registered filer |
| ``postmarks`` | bytes | the postmark bundle |
| ``closed``, ``opening`` | proof | those entries of the call's log |
| ``consistency`` | list of bytes | path from the ticket's checkpoint to that of the minutes |
| ``status``, ``outcome``, ``minutes`` | note | as the server published them |
| ``file_key`` | bytes | age file key of the envelope: whoever has it can open that one envelope |

``terms_key``, ``terms``, ``submission``, ``layout`` and ``descriptors`` are in every file, and a
ticket, a refusal or both.

Source: docs/spec/evidence.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from bistro.crypto.digest import HASH_SIZE
from bistro.crypto.keys import decode_base64
from bistro.errors import FormatError
from bistro.ids import Origin
from bistro.wire.anchor import MAX_TIMESTAMPS, Timestamp
from bistro.wire.document import Fields, Json, decode_json, encode_json
from bistro.wire.fragment import MAX_DESCRIPTOR_SIZE, MAX_FRAGMENTS, MAX_LAYOUT_SIZE
from bistro.wire.header import MAX_SIGNED_HEADER_SIZE
from bistro.wire.lines import format_base64
from bistro.wire.proof import MAX_PATH_LENGTH, MAX_PROOF_SIZE

KIND: Final = "bistro/evidence/v1"
MAX_EVIDENCE_SIZE: Final = 8 * 1_048_576
"""Readers take no more than this from a disk before they refuse."""

MAX_TERMS: Final = 256
MAX_ROTATIONS: Final = 64
MAX_RECEIPTS: Final = 1_024
MAX_NOTE_LENGTH: Final = 400_000
MAX_KEY_LENGTH: Final = 1_200
MAX_BLOB_SIZE: Final = 4 * 1_048_576
"""The longest manifest, admission or bundle; a longer manifest stays absent."""

FILE_KEY_SIZE: Final = 16

OPTIONAL_PARTS: Final = (
    "admission",
    "closed",
    "consistency",
    "file_key",
    "held",
    "manifest",
    "minutes",
    "opening",
    "outcome",
    "postmarks",
    "receipts",
    "refusal",
    "rotations",
    "status",
    "ticket",
    "timestamps",
    "witnessed",
)
"""Parts that may be absent, sorted as in ``absent``."""


T = TypeVar("T")


class TermsVersion(NamedTuple):
    """One version of the terms: the signed note and the tlog-proof of its entry."""

    note: str
    proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The parts of an evidence file, none of them verified.

    A part that is None or empty is absent; see the module's table.
    """

    origin: Origin
    terms_key: str
    terms: tuple[TermsVersion, ...]
    submission: bytes
    layout: bytes
    descriptors: tuple[bytes, ...]
    ticket: str | None = None
    refusal: str | None = None
    manifest: bytes | None = None
    rotations: tuple[str, ...] = ()
    witnessed: str | None = None
    timestamps: tuple[Timestamp, ...] = ()
    receipts: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    admission: bytes | None = None
    postmarks: bytes | None = None
    closed: str | None = None
    opening: str | None = None
    consistency: tuple[bytes, ...] | None = None
    status: str | None = None
    outcome: str | None = None
    minutes: str | None = None
    file_key: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse what proves nothing: neither a ticket nor a refusal."""
        if self.ticket is None and self.refusal is None:
            raise FormatError("evidence: expected a ticket or a refusal, found neither")

    def has(self, part: str) -> bool:
        """Whether the optional ``part`` is in the file."""
        # An empty consistency path is a proof: of two checkpoints of one size.
        value = getattr(self, part)
        return value is not None and (part == "consistency" or value != ())

    @property
    def absent(self) -> tuple[str, ...]:
        """The optional parts that are not in the file, sorted."""
        return tuple(part for part in OPTIONAL_PARTS if not self.has(part))

    @property
    def is_attempt(self) -> bool:
        """Whether it can prove an attempt only: a refusal and no ticket."""
        return self.ticket is None

    def encode(self) -> bytes:
        """The file's bytes.

        Raises:
            FormatError: More than ``MAX_EVIDENCE_SIZE``, or a part above its limit.
        """
        content: dict[str, Json] = {
            "kind": KIND,
            "origin": str(self.origin),
            "terms_key": self.terms_key,
            "terms": [{"note": version.note, "proof": version.proof} for version in self.terms],
            "submission": format_base64(self.submission),
            "layout": format_base64(self.layout),
            "descriptors": [format_base64(item) for item in self.descriptors],
            "absent": self.absent,
        }
        for part in OPTIONAL_PARTS:
            if self.has(part):
                content[part] = _to_json(getattr(self, part))
        data = encode_json(content)
        # Limits are checked by reading what was written: one list of them, in ``decode``.
        Evidence.decode(data)
        return data

    @classmethod
    def decode(cls, data: bytes) -> Evidence:
        """The evidence that ``data`` is the one encoding of; nothing is verified yet.

        Raises:
            FormatError: Anything else: an unknown part, one that is both present and absent,
                one above its limit.
        """
        present = decode_json(data, MAX_EVIDENCE_SIZE)
        fields = Fields("evidence", present)
        fields.constant("kind", KIND)
        names = present if isinstance(present, dict) else {}

        def optional(part: str, read: Callable[[str], T]) -> T | None:
            return read(part) if part in names else None

        def text(part: str) -> str:
            return fields.text(part, MAX_NOTE_LENGTH, minimum=1)

        def proof(part: str) -> str:
            return fields.text(part, MAX_PROOF_SIZE, minimum=1)

        def proofs(part: str) -> tuple[str, ...]:
            return fields.texts(part, MAX_RECEIPTS, longest=MAX_PROOF_SIZE, minimum=1)

        def blob(part: str) -> bytes:
            return fields.blob(part, MAX_BLOB_SIZE, minimum=1)

        evidence = cls(
            origin=Origin.parse(fields.text("origin", MAX_KEY_LENGTH)),
            terms_key=fields.text("terms_key", MAX_KEY_LENGTH, minimum=1),
            terms=tuple(
                _read_version(item) for item in fields.objects("terms", MAX_TERMS, minimum=1)
            ),
            submission=fields.blob("submission", MAX_SIGNED_HEADER_SIZE, minimum=1),
            layout=fields.blob("layout", MAX_LAYOUT_SIZE, minimum=1),
            descriptors=_read_blobs(fields, "descriptors", MAX_FRAGMENTS, minimum=1),
            ticket=optional("ticket", proof),
            refusal=optional("refusal", proof),
            manifest=optional("manifest", blob),
            rotations=optional(
                "rotations",
                lambda part: fields.texts(part, MAX_ROTATIONS, longest=MAX_NOTE_LENGTH, minimum=1),
            )
            or (),
            witnessed=optional("witnessed", proof),
            timestamps=tuple(
                Timestamp.read(item)
                for item in optional(
                    "timestamps", lambda part: fields.objects(part, MAX_TIMESTAMPS, minimum=1)
                )
                or ()
            ),
            receipts=optional("receipts", proofs) or (),
            held=optional("held", proofs) or (),
            admission=optional("admission", blob),
            postmarks=optional("postmarks", blob),
            closed=optional("closed", proof),
            opening=optional("opening", proof),
            consistency=optional(
                "consistency",
                lambda part: _read_blobs(fields, part, 2 * MAX_PATH_LENGTH, size=HASH_SIZE),
            ),
            status=optional("status", text),
            outcome=optional("outcome", text),
            minutes=optional("minutes", text),
            file_key=optional(
                "file_key", lambda part: fields.blob(part, FILE_KEY_SIZE, minimum=FILE_KEY_SIZE)
            ),
        )
        absent = fields.texts("absent", len(OPTIONAL_PARTS), longest=MAX_KEY_LENGTH)
        fields.end()
        if absent != evidence.absent:
            raise FormatError(
                f"evidence: expected absent parts {list(evidence.absent)}, found {list(absent)}"
            )
        return evidence


def _to_json(value: object) -> Json:
    """A part as it stands in the file."""
    match value:
        case bytes():
            return format_base64(value)
        case Timestamp():
            return value.document()
        case tuple():
            return [_to_json(item) for item in value]
        case _:
            return str(value)


def _read_blobs(
    fields: Fields,
    part: str,
    maximum: int,
    *,
    minimum: int = 0,
    size: int | None = None,
) -> tuple[bytes, ...]:
    """An array of base64 values of 1 to ``MAX_DESCRIPTOR_SIZE`` bytes, or of exactly ``size``."""
    texts = fields.texts(part, maximum, longest=2 * MAX_DESCRIPTOR_SIZE, minimum=minimum)
    values = tuple(decode_base64(f"evidence, {part}", text) for text in texts)
    for value in values:
        if len(value) > MAX_DESCRIPTOR_SIZE or (size is not None and len(value) != size):
            expected = f"at most {MAX_DESCRIPTOR_SIZE}" if size is None else str(size)
            raise FormatError(
                f"evidence, {part}: expected values of {expected} bytes, found {len(value)}"
            )
    return values


def _read_version(fields: Fields) -> TermsVersion:
    version = TermsVersion(
        note=fields.text("note", MAX_NOTE_LENGTH, minimum=1),
        proof=fields.text("proof", MAX_PROOF_SIZE, minimum=1),
    )
    fields.end()
    return version
