"""What servers and relays say about themselves at ``/.well-known/``: unsigned, cacheable JSON.

Discovery tells where to look; it proves nothing. A client pins ``terms_key`` on first
contact and believes signed terms only.

Source: docs/spec/api.md, discovery; docs/spec/terms.md, key rotation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from bistro.crypto.digest import HASH_SIZE
from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError
from bistro.ids import MAX_CALL_ID_LENGTH, MAX_HOST_NAME_LENGTH, require_call_id, require_host_name
from bistro.instant import UnixMillis
from bistro.wire.document import Fields, Json, encode_json

MAX_DISCOVERY_SIZE: Final = 1_048_576
MAX_CALLS: Final = 1_000
MAX_DESTINATIONS: Final = 1_000
MAX_ROTATIONS: Final = 64
FULL_LOAD: Final = 1_000
"""Load is counted per mille of what the relay can take."""
PROTOCOL: Final = 1
CALL_STATES: Final = frozenset({"announced", "open", "closed", "opened"})

_MAX_KEY_LENGTH = 512
_MAX_TITLE_LENGTH = 200
_MAX_URL_LENGTH = 2_048
_MAX_NOTE_LENGTH = 262_144
_MAX_PROTOCOLS = 16
_URL = re.compile(r"https?://[^/\s?#]+(?:/[^\s?#]*[^/\s?#])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSummary:
    """One call as discovery lists it."""

    id: str
    title: str
    state: str
    opens: UnixMillis
    closes: UnixMillis
    terms: bytes

    def __post_init__(self) -> None:
        """Refuse an id that is none."""
        require_call_id(self.id)

    def to_json(self) -> Json:
        """The call as an object of the discovery document."""
        return {
            "id": self.id,
            "title": self.title,
            "state": self.state,
            "opens": self.opens,
            "closes": self.closes,
            "terms": self.terms.hex(),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read one object of ``calls``."""
        call = cls(
            id=fields.text("id", MAX_CALL_ID_LENGTH),
            title=fields.text("title", _MAX_TITLE_LENGTH, minimum=1),
            state=fields.choice("state", CALL_STATES),
            opens=fields.instant("opens"),
            closes=fields.instant("closes"),
            terms=fields.hex("terms", HASH_SIZE),
        )
        fields.end()
        return call


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDiscovery:
    """``/.well-known/bistro.json``.

    Attributes:
        name: The server's name; the terms key carries the same one.
        terms_key: What clients pin.
        base_url: Where the API begins, without a slash at the end.
        protocols: Versions served, ascending.
        tickets_url: Where ticket requests are also taken over plain HTTP, if anywhere.
        rotations: Signed notes of the terms that changed the terms key, oldest first.
    """

    name: str
    terms_key: VerifierKey
    base_url: str
    calls: tuple[CallSummary, ...]
    protocols: tuple[int, ...] = (PROTOCOL,)
    tickets_url: str | None = None
    rotations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        require_host_name(self.name)
        _require_key_name(self.terms_key, self.name)
        _require_protocols(self.protocols)
        _require_url(self.base_url)
        if self.tickets_url is not None:
            _require_url(self.tickets_url)
        _require_distinct("calls", [call.id for call in self.calls])

    def call(self, call_id: str) -> CallSummary | None:
        """The call of that id, if it is listed."""
        return next((call for call in self.calls if call.id == call_id), None)

    def encode(self) -> bytes:
        """The document as it is served."""
        return encode_json(
            {
                "version": 1,
                "name": self.name,
                "terms_key": self.terms_key.format(),
                "base_url": self.base_url,
                "protocols": self.protocols,
                "calls": [call.to_json() for call in self.calls],
                "tickets_url": self.tickets_url,
                "rotations": self.rotations,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the document.

        Raises:
            FormatError: Not the one encoding of a discovery document of version 1, or the key
                carries another name than the server.
        """
        fields = Fields("server discovery", data, max_size=MAX_DISCOVERY_SIZE)
        fields.constant("version", 1)
        discovery = cls(
            name=fields.text("name", MAX_HOST_NAME_LENGTH),
            terms_key=VerifierKey.parse(fields.text("terms_key", _MAX_KEY_LENGTH)),
            base_url=fields.text("base_url", _MAX_URL_LENGTH),
            protocols=fields.uints("protocols", _MAX_PROTOCOLS),
            calls=tuple(map(CallSummary.from_fields, fields.objects("calls", MAX_CALLS))),
            tickets_url=fields.optional_text("tickets_url", _MAX_URL_LENGTH),
            rotations=fields.texts("rotations", MAX_ROTATIONS, longest=_MAX_NOTE_LENGTH),
        )
        fields.end()
        return discovery


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedDestination:
    """A destination that a relay serves, with the calls whose terms it knows."""

    server: str
    calls: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        require_host_name(self.server)
        for call in self.calls:
            require_call_id(call)
        _require_distinct("calls", self.calls)

    def to_json(self) -> Json:
        """The destination as an object of the discovery document."""
        return {"server": self.server, "calls": self.calls}

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read one object of ``destinations``."""
        served = cls(
            server=fields.text("server", MAX_HOST_NAME_LENGTH),
            calls=fields.texts("calls", MAX_CALLS, longest=MAX_CALL_ID_LENGTH),
        )
        fields.end()
        return served


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayDiscovery:
    """``/.well-known/bistro-relay.json``.

    Attributes:
        name: The relay's name; its key carries the same one.
        free_bytes: Room for further fragments, reservations taken off.
        load: 0 (idle) to 1,000 (takes nothing more), for choosing among relays.
        accepting: Whether new uploads are taken: not while draining or full.
        abuse_contact: Whom to tell of abuse, a mail address or a URL; may be empty.
    """

    name: str
    operator: str
    region: str
    vkey: VerifierKey
    base_url: str
    destinations: tuple[ServedDestination, ...]
    free_bytes: int
    load: int
    accepting: bool
    abuse_contact: str = ""
    protocols: tuple[int, ...] = (PROTOCOL,)

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        require_host_name(self.name, what="relay name")
        _require_key_name(self.vkey, self.name)
        _require_protocols(self.protocols)
        _require_url(self.base_url)
        _require_distinct("destinations", [served.server for served in self.destinations])

    def serves(self, server: str) -> bool:
        """Whether fragments for that destination are taken here."""
        return any(served.server == server for served in self.destinations)

    def encode(self) -> bytes:
        """The document as it is served."""
        return encode_json(
            {
                "version": 1,
                "name": self.name,
                "operator": self.operator,
                "region": self.region,
                "vkey": self.vkey.format(),
                "base_url": self.base_url,
                "protocols": self.protocols,
                "destinations": [served.to_json() for served in self.destinations],
                "free_bytes": self.free_bytes,
                "load": self.load,
                "accepting": self.accepting,
                "abuse_contact": self.abuse_contact,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the document.

        Raises:
            FormatError: Not the one encoding of a discovery document of version 1, or the key
                carries another name than the relay.
        """
        fields = Fields("relay discovery", data, max_size=MAX_DISCOVERY_SIZE)
        fields.constant("version", 1)
        discovery = cls(
            name=fields.text("name", MAX_HOST_NAME_LENGTH),
            operator=fields.text("operator", _MAX_TITLE_LENGTH, minimum=1),
            region=fields.text("region", _MAX_TITLE_LENGTH),
            vkey=VerifierKey.parse(fields.text("vkey", _MAX_KEY_LENGTH)),
            base_url=fields.text("base_url", _MAX_URL_LENGTH),
            protocols=fields.uints("protocols", _MAX_PROTOCOLS),
            destinations=tuple(
                map(ServedDestination.from_fields, fields.objects("destinations", MAX_DESTINATIONS))
            ),
            free_bytes=fields.uint("free_bytes"),
            load=fields.uint("load", FULL_LOAD),
            accepting=fields.boolean("accepting"),
            abuse_contact=fields.text("abuse_contact", _MAX_TITLE_LENGTH),
        )
        fields.end()
        return discovery


def _require_key_name(key: VerifierKey, name: str) -> None:
    if key.name != name:
        raise FormatError(f"discovery: expected a key named {name!r}, found {key.name!r}")


def _require_url(text: str) -> None:
    if not _URL.fullmatch(text):
        raise FormatError("discovery: expected an http or https URL without a slash at the end")


def _require_protocols(protocols: Sequence[int]) -> None:
    if not protocols or list(protocols) != sorted(set(protocols)):
        raise FormatError("discovery: expected protocol versions in ascending order")


def _require_distinct(kind: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise FormatError(f"discovery: expected distinct {kind}, found one twice")
