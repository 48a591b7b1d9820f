"""What a relay says under its own name: its service, hints to sister relays, takedowns.

    bistro/<kind>/v1
    <relay>
    <canonical JSON object>

Signed notes by the relay's key.

Source: docs/spec/relay-life.md.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final, Self

from bistro.crypto.digest import HASH_SIZE, sha256
from bistro.crypto.signing import Note, SigningKey, VerifierKey, sign_note, verify_note
from bistro.errors import FormatError, VerificationError
from bistro.ids import MAX_HOST_NAME_LENGTH, Origin, require_host_name
from bistro.instant import UnixMillis
from bistro.wire.discovery import FULL_LOAD, MAX_DESTINATIONS
from bistro.wire.document import Fields, Json
from bistro.wire.entry import MAX_FRAGMENT_INDEX
from bistro.wire.statement import MAX_STATEMENT_SIZE, decode_saying, encode_saying

MAX_SISTERS: Final = 8
MAX_REASON_LENGTH: Final = 500
MAX_NOTE_SIZE: Final = MAX_STATEMENT_SIZE + 1_024
WHOLE_TIME: Final = "all"
"""The period of a statement about everything since the relay began."""

_MAX_ORIGIN_LENGTH: Final = 512
_MONTH: Final = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])")


class RelayNote(ABC):
    """A note of one kind; ``decode`` undoes ``encode``, and both are strict."""

    KIND: ClassVar[str]

    relay: str

    @abstractmethod
    def _content(self) -> dict[str, Json]:
        """Its fields but the version."""

    @classmethod
    @abstractmethod
    def _read(cls, relay: str, fields: Fields) -> Self:
        """The note of a relay with these fields."""

    def encode(self) -> bytes:
        """The text of the note: what is signed."""
        return encode_saying(self.KIND, self.relay, {"version": 1, **self._content()})

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """What ``text``, without signatures, is the one encoding of, or ``FormatError``."""
        relay, fields = decode_saying(cls.KIND, text)
        require_host_name(relay, what="relay name")
        fields.constant("version", 1)
        found = cls._read(relay, fields)
        fields.end()
        return found

    def sign(self, key: SigningKey) -> bytes:
        """The signed note; ``key`` is the relay's."""
        return sign_note(self.encode(), key)

    @classmethod
    def verify(cls, note: bytes, key: VerifierKey) -> Self:
        """What a signed note says, once it is known to be the relay's.

        Raises:
            FormatError: No such note.
            VerificationError: Not signed by ``key``, or about another relay.
        """
        signed = Note.parse(note)
        verify_note(signed, key)
        found = cls.decode(signed.text)
        if found.relay != key.name:
            raise VerificationError(f"{cls.KIND}: expected relay {key.name}, found {found.relay}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationService:
    """What a relay did for one destination, in bytes of fragments."""

    server: str
    accepted_bytes: int
    delivered_bytes: int
    held_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(RelayNote):
    """A statement of service.

    Attributes:
        relay: Whose.
        at: When it was made.
        period: A month, ``YYYY-MM`` of UTC, or ``WHOLE_TIME``.
        destinations: By name.
    """

    KIND: ClassVar[str] = "service"

    relay: str
    at: UnixMillis
    period: str
    destinations: tuple[DestinationService, ...]

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        require_month(self.period, WHOLE_TIME)
        names = [one.server for one in self.destinations]
        if any(first >= second for first, second in pairwise(names)):
            raise FormatError("service: expected destinations in order, each once")
        for name in names:
            require_host_name(name)

    def _content(self) -> dict[str, Json]:
        return {
            "at": self.at,
            "period": self.period,
            "destinations": [
                {
                    "server": one.server,
                    "accepted_bytes": one.accepted_bytes,
                    "delivered_bytes": one.delivered_bytes,
                    "held_bytes": one.held_bytes,
                }
                for one in self.destinations
            ],
        }

    @classmethod
    def _read(cls, relay: str, fields: Fields) -> Self:
        return cls(
            relay=relay,
            at=fields.instant("at"),
            period=fields.text("period", 16),
            destinations=tuple(
                map(_read_service, fields.objects("destinations", MAX_DESTINATIONS))
            ),
        )


def _read_service(fields: Fields) -> DestinationService:
    found = DestinationService(
        server=fields.text("server", MAX_HOST_NAME_LENGTH),
        accepted_bytes=fields.uint("accepted_bytes"),
        delivered_bytes=fields.uint("delivered_bytes"),
        held_bytes=fields.uint("held_bytes"),
    )
    fields.end()
    return found


def require_month(text: str, *others: str) -> None:
    """Raise ``FormatError`` unless ``text`` is a month, ``YYYY-MM``, or one of ``others``."""
    if text not in others and not _MONTH.fullmatch(text):
        raise FormatError(f"expected a month such as 2026-11, found {text[:16]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sister:
    """Another relay of a call, as it described itself."""

    name: str
    load: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint(RelayNote):
    """Where to go instead, best first; advice only.

    Attributes:
        relay: Who gives it.
        at: When.
        until: After this it is stale.
        origin: The call whose relays they are.
    """

    KIND: ClassVar[str] = "hint"

    relay: str
    at: UnixMillis
    until: UnixMillis
    origin: Origin
    sisters: tuple[Sister, ...]

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        names = [one.name for one in self.sisters]
        if len(set(names)) != len(names) or self.relay in names:
            raise FormatError("hint: expected other relays, each once")
        for name in names:
            require_host_name(name, what="relay name")

    def _content(self) -> dict[str, Json]:
        return {
            "at": self.at,
            "until": self.until,
            "origin": str(self.origin),
            "sisters": [
                {"name": one.name, "load": one.load, "free_bytes": one.free_bytes}
                for one in self.sisters
            ],
        }

    @classmethod
    def _read(cls, relay: str, fields: Fields) -> Self:
        return cls(
            relay=relay,
            at=fields.instant("at"),
            until=fields.instant("until"),
            origin=Origin.parse(fields.text("origin", _MAX_ORIGIN_LENGTH)),
            sisters=tuple(map(_read_sister, fields.objects("sisters", MAX_SISTERS, minimum=1))),
        )


def _read_sister(fields: Fields) -> Sister:
    found = Sister(
        name=fields.text("name", MAX_HOST_NAME_LENGTH),
        load=fields.uint("load", FULL_LOAD),
        free_bytes=fields.uint("free_bytes"),
    )
    fields.end()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Takedown(RelayNote):
    """An operator's word that what was promised is deleted all the same.

    Attributes:
        relay: Whose operator.
        at: When.
        origin: The call.
        commitment: The submission.
        fragments: Ascending indexes, or None: all of it.
        reason: For everybody to read.
    """

    KIND: ClassVar[str] = "takedown"

    relay: str
    at: UnixMillis
    origin: Origin
    commitment: bytes
    fragments: tuple[int, ...] | None
    reason: str

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        some = self.fragments
        if some is not None and (not some or any(a >= b for a, b in pairwise(some))):
            raise FormatError("takedown: expected ascending fragment indexes, each once")
        if not 0 < len(self.reason) <= MAX_REASON_LENGTH:
            raise FormatError(f"reason: expected 1 to {MAX_REASON_LENGTH} characters")

    def covers(self, index: int) -> bool:
        """Whether a fragment of the commitment is taken down."""
        return self.fragments is None or index in self.fragments

    def _content(self) -> dict[str, Json]:
        return {
            "at": self.at,
            "origin": str(self.origin),
            "commitment": self.commitment.hex(),
            "fragments": self.fragments,
            "reason": self.reason,
        }

    @classmethod
    def _read(cls, relay: str, fields: Fields) -> Self:
        return cls(
            relay=relay,
            at=fields.instant("at"),
            origin=Origin.parse(fields.text("origin", _MAX_ORIGIN_LENGTH)),
            commitment=fields.hex("commitment", HASH_SIZE),
            fragments=fields.optional_uints(
                "fragments", MAX_FRAGMENT_INDEX + 1, highest=MAX_FRAGMENT_INDEX
            ),
            reason=fields.text("reason", MAX_REASON_LENGTH, minimum=1),
        )


def name_of(note: bytes) -> bytes:
    """What a ledger's entry calls a signed takedown: the SHA-256 of its bytes."""
    return sha256(note)
