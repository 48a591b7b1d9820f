"""Status: where a submission stands, for everybody, and how it ended, for its filer.

Both are notes signed with the call's status key, named ``<origin>/status``. The public one
says nothing that the log does not show; the other lies behind a token that only the header's
nonce gives.

Source: docs/spec/opening.md, status.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from bistro.crypto.digest import HASH_SIZE
from bistro.crypto.signing import Note, SigningKey, VerifierKey, sign_note, verify_note
from bistro.errors import FormatError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.document import Fields, Json
from bistro.wire.entry import MAX_FRAGMENT_INDEX
from bistro.wire.lines import parse_hex
from bistro.wire.proof import MAX_PATH_LENGTH
from bistro.wire.statement import decode_statement, encode_statement

STATES: Final = ("ticketed", "staged", "collected", "opened", "lapsed")
"""What a submission can be in public, in the order it goes; lapsed follows ticketed."""

OUTCOMES: Final = frozenset(
    {"opened", "accepted", "rejected", "superseded", "withdrawn", "void", "lapsed"}
)
"""How a submission can end."""

MAX_REASONS: Final = 64
MAX_REASON_LENGTH: Final = 1_000
MAX_CODE_LENGTH: Final = 64

_MAX_MINUTES_ENTRY_SIZE = 128


def _require_word(what: str, word: str, allowed: Collection[str]) -> None:
    if word not in allowed:
        raise FormatError(f"{what}: expected one of {', '.join(sorted(allowed))}, found {word!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The public status of a commitment.

    Attributes:
        index: The ticket's index in the call's log.
        fragments: Indexes of the fragments that the destination knows to be staged, ascending.
        needed: How many distinct fragments restore the envelope, once the destination knows.
    """

    origin: Origin
    commitment: bytes
    state: str
    ticketed_at: UnixMillis
    index: int
    updated_at: UnixMillis
    fragments: tuple[int, ...]
    needed: int | None

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        _require_word("status state", self.state, STATES)
        if any(first >= second for first, second in pairwise(self.fragments)):
            raise FormatError("status: expected ascending fragment indexes, each once")

    def encode(self) -> bytes:
        """The text of the note: what is signed."""
        content: dict[str, Json] = {
            "version": 1,
            "commitment": self.commitment.hex(),
            "state": self.state,
            "ticketed_at": self.ticketed_at,
            "index": self.index,
            "updated_at": self.updated_at,
            "fragments": self.fragments,
            "needed": self.needed,
        }
        return encode_statement("status", self.origin, content)

    @classmethod
    def decode(cls, text: bytes) -> Status:
        """The status that ``text``, without signatures, is the one encoding of.

        Raises:
            FormatError: Anything else.
        """
        origin, fields = decode_statement("status", text)
        fields.constant("version", 1)
        status = cls(
            origin=origin,
            commitment=fields.hex("commitment", HASH_SIZE),
            state=fields.choice("state", STATES),
            ticketed_at=fields.instant("ticketed_at"),
            index=fields.uint("index"),
            updated_at=fields.instant("updated_at"),
            fragments=fields.uints("fragments", MAX_FRAGMENT_INDEX + 1, highest=MAX_FRAGMENT_INDEX),
            needed=fields.optional_uint("needed", MAX_FRAGMENT_INDEX + 1, minimum=1),
        )
        fields.end()
        return status

    def sign(self, key: SigningKey) -> bytes:
        """The signed note; ``key`` is the call's status key under any name."""
        return sign_note(self.encode(), key.renamed(self.origin.status))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a submission ended as it did: a code for programs, a text for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MinutesPlace:
    """Where a submission stands in the minutes.

    Attributes:
        entry: The encoded entry of the minutes.
        index: Its place among the log's commitments.
        path: Sibling hashes, lowest first.
    """

    entry: bytes
    index: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a submission ended, for whoever holds the token.

    Attributes:
        minutes: The submission's place in the minutes; None before there are any.
    """

    origin: Origin
    commitment: bytes
    state: str
    outcome: str
    reasons: tuple[Reason, ...] = field(default=())
    minutes: MinutesPlace | None = field(default=None)
    updated_at: UnixMillis

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        _require_word("outcome state", self.state, STATES)
        _require_word("outcome", self.outcome, OUTCOMES)

    def encode(self) -> bytes:
        """The text of the note: what is signed."""
        place = self.minutes
        content: dict[str, Json] = {
            "version": 1,
            "commitment": self.commitment.hex(),
            "state": self.state,
            "outcome": self.outcome,
            "reasons": [{"code": reason.code, "text": reason.text} for reason in self.reasons],
            "minutes_entry": None if place is None else place.entry.hex(),
            "minutes_index": None if place is None else place.index,
            "minutes_path": None if place is None else [node.hex() for node in place.path],
            "updated_at": self.updated_at,
        }
        return encode_statement("outcome", self.origin, content)

    @classmethod
    def decode(cls, text: bytes) -> Outcome:
        """The outcome that ``text``, without signatures, is the one encoding of.

        Raises:
            FormatError: Anything else.
        """
        origin, fields = decode_statement("outcome", text)
        fields.constant("version", 1)
        outcome = cls(
            origin=origin,
            commitment=fields.hex("commitment", HASH_SIZE),
            state=fields.choice("state", STATES),
            outcome=fields.choice("outcome", OUTCOMES),
            reasons=tuple(_read_reason(item) for item in fields.objects("reasons", MAX_REASONS)),
            minutes=_read_place(fields),
            updated_at=fields.instant("updated_at"),
        )
        fields.end()
        return outcome

    def sign(self, key: SigningKey) -> bytes:
        """The signed note; ``key`` is the call's status key under any name."""
        return sign_note(self.encode(), key.renamed(self.origin.status))


def _read_reason(fields: Fields) -> Reason:
    reason = Reason(
        code=fields.text("code", MAX_CODE_LENGTH, minimum=1),
        text=fields.text("text", MAX_REASON_LENGTH),
    )
    fields.end()
    return reason


def _read_place(fields: Fields) -> MinutesPlace | None:
    entry = fields.optional_text("minutes_entry", 2 * _MAX_MINUTES_ENTRY_SIZE, minimum=2)
    if entry is None:
        # The three stand or fall together: a place without its proof says nothing.
        rest = fields.optional_uint("minutes_index"), fields.optional_text("minutes_path", 0)
        if rest != (None, None):
            raise FormatError("outcome: expected no minutes index and path without an entry")
        return None
    nodes = fields.texts("minutes_path", MAX_PATH_LENGTH, longest=2 * HASH_SIZE)
    return MinutesPlace(
        entry=parse_hex("minutes entry", entry),
        index=fields.uint("minutes_index"),
        path=tuple(parse_hex("minutes path", node, size=HASH_SIZE) for node in nodes),
    )


def verify_status(note: bytes, status_key: VerifierKey) -> Status:
    """The status in a signed note.

    Args:
        note: The whole note, as the server served it.
        status_key: ``keys.status`` of the call's terms, named ``<origin>/status``.

    Raises:
        FormatError: The note or its text is malformed.
        VerificationError: Not signed by ``status_key``.
    """
    parsed = Note.parse(note)
    verify_note(parsed, status_key)
    return Status.decode(parsed.text)


def verify_outcome(note: bytes, status_key: VerifierKey) -> Outcome:
    """The outcome in a signed note; arguments and errors as ``verify_status``."""
    parsed = Note.parse(note)
    verify_note(parsed, status_key)
    return Outcome.decode(parsed.text)
