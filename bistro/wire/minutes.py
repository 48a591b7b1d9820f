"""Minutes: the signed record of an opening, and each commitment's place in it.

The root covers every commitment of the log in index order, each with its outcome salted by the
filer's token: the minutes show that nobody was left out, and tell outcomes to nobody else.

Source: docs/spec/opening.md, minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bistro.crypto.digest import HASH_SIZE, leaf_hash, sha256
from bistro.crypto.merkle import verify_inclusion
from bistro.crypto.signing import Note, SigningKey, VerifierKey, sign_note, verify_note
from bistro.errors import FormatError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire import codec
from bistro.wire.checkpoint import Checkpoint, verify_checkpoint
from bistro.wire.document import Json
from bistro.wire.lines import require_hash
from bistro.wire.statement import decode_statement, encode_statement
from bistro.wire.status import OUTCOMES, MinutesPlace

MAX_PRESENT: Final = 64
MAX_NAME_LENGTH: Final = 200
MAX_CHECKPOINT_LENGTH: Final = 65_536
MAX_ENTRY_SIZE: Final = 128


def salted_outcome(token: bytes, outcome: str) -> bytes:
    """The hash that stands for an outcome in the minutes.

    Args:
        token: ``Header.token`` of the submission; empty where no header could be read.
        outcome: A word from ``OUTCOMES``.
    """
    if outcome not in OUTCOMES:
        raise FormatError(f"outcome: expected one of {sorted(OUTCOMES)}, found {outcome!r}")
    return sha256(token + outcome.encode("ascii"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MinutesEntry:
    """One commitment in the minutes.

    Attributes:
        index: Of its ticket in the call's log; two filers may hold the same commitment.
        commitment: 32 bytes.
        salted: Its salted outcome, 32 bytes.
    """

    index: int
    commitment: bytes
    salted: bytes

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        if not 0 <= self.index <= codec.MAX_UINT:
            raise FormatError(f"minutes entry: expected an index in a log, found {self.index}")
        require_hash("minutes entry: commitment", self.commitment)
        require_hash("minutes entry: outcome", self.salted)

    def encode(self) -> bytes:
        """Canonical MessagePack ``[log index, commitment, salted outcome]``."""
        return codec.encode([self.index, self.commitment, self.salted])

    @classmethod
    def decode(cls, data: bytes) -> MinutesEntry:
        """The entry that ``data`` is the one encoding of, or ``FormatError``."""
        fields = codec.Reader("minutes entry", data, max_size=MAX_ENTRY_SIZE)
        entry = cls(
            index=fields.uint(),
            commitment=fields.fixed(HASH_SIZE),
            salted=fields.fixed(HASH_SIZE),
        )
        fields.end()
        return entry

    @property
    def leaf(self) -> bytes:
        """The entry's leaf hash."""
        return leaf_hash(self.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Minutes:
    """What was written down about an opening.

    Attributes:
        checkpoint_note: A signed checkpoint of the call's log that covers the opening entry.
        present: Who took part.
        dealer: Who dealt the officers' shares; None where the key was not shared.
        count: The commitments of the log.
        root: The Merkle root over their entries, in the order of the log.
    """

    origin: Origin
    checkpoint_note: bytes
    opened_at: UnixMillis
    present: tuple[str, ...]
    dealer: str | None
    count: int
    root: bytes

    def encode(self) -> bytes:
        """The text of the note: what is signed."""
        content: dict[str, Json] = {
            "version": 1,
            "checkpoint": self.checkpoint_note.decode(),
            "opened_at": self.opened_at,
            "present": self.present,
            "dealer": self.dealer,
            "count": self.count,
            "root": self.root.hex(),
        }
        return encode_statement("minutes", self.origin, content)

    @classmethod
    def decode(cls, text: bytes) -> Minutes:
        """The minutes that ``text``, without signatures, are the one encoding of.

        Raises:
            FormatError: Anything else; also a checkpoint that is no note.
        """
        origin, fields = decode_statement("minutes", text)
        fields.constant("version", 1)
        minutes = cls(
            origin=origin,
            checkpoint_note=fields.text("checkpoint", MAX_CHECKPOINT_LENGTH).encode(),
            opened_at=fields.instant("opened_at"),
            present=fields.texts("present", MAX_PRESENT, longest=MAX_NAME_LENGTH),
            dealer=fields.optional_text("dealer", MAX_NAME_LENGTH, minimum=1),
            count=fields.uint("count"),
            root=fields.hex("root", HASH_SIZE),
        )
        fields.end()
        Checkpoint.parse(Note.parse(minutes.checkpoint_note).text)
        return minutes

    def sign(self, key: SigningKey) -> bytes:
        """The signed note; ``key`` is the call's status key under any name."""
        return sign_note(self.encode(), key.renamed(self.origin.status))

    def verify_checkpoint(self, log_key: VerifierKey) -> Checkpoint:
        """The checkpoint of the call's log that the minutes name.

        Raises:
            VerificationError: Not signed by ``log_key``, or of another ledger.
        """
        return verify_checkpoint(self.checkpoint_note, log_key.renamed(str(self.origin)))

    def verify_place(self, place: MinutesPlace) -> MinutesEntry:
        """The entry at ``place``, once it is found to be under these minutes' root.

        Raises:
            FormatError: The entry is malformed.
            VerificationError: The path is wrong or leads elsewhere.
        """
        entry = MinutesEntry.decode(place.entry)
        verify_inclusion(
            leaf=entry.leaf, index=place.index, size=self.count, path=place.path, root=self.root
        )
        return entry


def verify_minutes(note: bytes, status_key: VerifierKey) -> Minutes:
    """The minutes in a signed note; their checkpoint is not verified yet.

    Args:
        note: The whole note.
        status_key: ``keys.status`` of the call's terms, named ``<origin>/status``.

    Raises:
        FormatError: The note or its text is malformed.
        VerificationError: Not signed by ``status_key``.
    """
    parsed = Note.parse(note)
    verify_note(parsed, status_key)
    return Minutes.decode(parsed.text)
