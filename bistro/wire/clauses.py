"""The parts that terms are made of: keys, relays, outages, witnesses and so on.

Each is a value that checks itself, is read from an object of the terms, and writes that object.

Source: docs/spec/terms.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bistro.crypto.age.keys import parse_recipient
from bistro.crypto.digest import HASH_SIZE, sha256
from bistro.crypto.keys import KEY_ID_SIZE, VerifierKey, decode_base64, require_key_name
from bistro.errors import FormatError
from bistro.ids import (
    MAX_HOST_NAME_LENGTH,
    MAX_URL_LENGTH,
    Origin,
    require_base_url,
    require_host_name,
)
from bistro.instant import UnixMillis
from bistro.wire.document import Fields, Json
from bistro.wire.fragment import MAX_FRAGMENTS, require_spread
from bistro.wire.lines import require_hash

MAX_LINE_LENGTH: Final = 200
MAX_REGION_LENGTH: Final = 64
MAX_WEIGHT: Final = 1_000
MAX_RECIPIENT_LENGTH: Final = 2_048
MAX_RECIPIENTS: Final = 20
MIN_POSTMARK_QUORUM: Final = 2
MAX_POSTMARK_QUORUM: Final = 255
_MAX_VKEY_LENGTH: Final = 512
_MAX_WITNESS_KEY_LENGTH: Final = 2_560
_WITNESS_KEY_SIZES: Final = {0x04: 32, 0x06: 1_312}
"""Cosignatures: Ed25519, and ML-DSA-44, which version 1 carries but does not verify."""
_NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def require_line(what: str, text: str, *, maximum: int = MAX_LINE_LENGTH, minimum: int = 1) -> None:
    """Accept one line of text for people, or raise ``FormatError``."""
    if not minimum <= len(text) <= maximum or _NOT_IN_A_LINE.search(text):
        raise FormatError(
            f"{what}: expected {minimum} to {maximum} characters on one line, "
            f"found {text[:MAX_REGION_LENGTH]!a}"
        )


def require_recipients(what: str, recipients: tuple[str, ...]) -> None:
    """Accept 1 to 20 distinct age public keys of one type, or raise ``FormatError``."""
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise FormatError(f"{what}: expected 1 to {MAX_RECIPIENTS} keys, found {len(recipients)}")
    if len(set(recipients)) != len(recipients):
        raise FormatError(f"{what}: expected distinct keys, found one twice")
    # A key that parses has one spelling, so that distinct texts are distinct keys.
    kinds = sorted({parse_recipient(text).kind for text in recipients})
    if len(kinds) != 1:
        raise FormatError(f"{what}: expected keys of one type, found {' and '.join(kinds)}")


def _require_named(what: str, key: VerifierKey, name: str) -> None:
    if key.name != name:
        raise FormatError(f"{what}: expected a key named {name}, found {key.name[:200]!a}")


def _read_key(fields: Fields, name: str) -> VerifierKey:
    return VerifierKey.parse(fields.text(name, _MAX_VKEY_LENGTH))


@dataclass(frozen=True, slots=True)
class Spread:
    """Into how many fragments envelopes are cut (``n``), and how many restore one (``k``)."""

    k: int
    n: int

    def __post_init__(self) -> None:
        """Refuse anything but ``1 <= k <= n <= 255``."""
        require_spread(self.k, self.n)

    @classmethod
    def read(cls, fields: Fields) -> Spread:
        """The spread that an object of the terms describes, or ``FormatError``."""
        spread = cls(k=fields.uint("k", MAX_FRAGMENTS), n=fields.uint("n", MAX_FRAGMENTS))
        fields.end()
        return spread

    def document(self) -> dict[str, Json]:
        """The object that describes this spread."""
        return {"k": self.k, "n": self.n}


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a call.

    Attributes:
        terms: Signs terms; named ``<server>``.
        log: Signs the ledgers; named ``<origin>``, and renamed signs refusals.
        collect: Signs a collector's requests; named ``<origin>/collect``.
        status: Signs status and minutes; named ``<origin>/status``.
    """

    terms: VerifierKey
    log: VerifierKey
    collect: VerifierKey
    status: VerifierKey

    @classmethod
    def read(cls, fields: Fields) -> Keys:
        """The keys that an object of the terms describes, or ``FormatError``."""
        keys = cls(
            terms=_read_key(fields, "terms"),
            log=_read_key(fields, "log"),
            collect=_read_key(fields, "collect"),
            status=_read_key(fields, "status"),
        )
        fields.end()
        return keys

    def document(self) -> dict[str, Json]:
        """The object that describes these keys."""
        return {
            "terms": self.terms.format(),
            "log": self.log.format(),
            "collect": self.collect.format(),
            "status": self.status.format(),
        }

    def require_named_for(self, origin: Origin) -> None:
        """Accept keys with the names that ``origin`` gives them, or raise ``FormatError``."""
        _require_named("keys, terms", self.terms, origin.server)
        _require_named("keys, log", self.log, str(origin))
        _require_named("keys, collect", self.collect, origin.collect)
        _require_named("keys, status", self.status, origin.status)


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay that takes fragments of a call.

    Attributes:
        name: Its host name, and the name of its key.
        operator: Who runs it; relays of one operator count as one where promises add up.
        url: Where it answers, without a slash at the end.
        vkey: Its key, named ``name``.
        region: Where it stands, for people; may be empty.
        weight: How much it should be given against others, 1 to 1,000.
    """

    name: str
    operator: str
    url: str
    vkey: VerifierKey
    region: str = ""
    weight: int = 1

    def __post_init__(self) -> None:
        """Refuse fields that no relay has."""
        require_host_name(self.name, what="relay name")
        require_line("relay, operator", self.operator)
        require_base_url(self.url)
        _require_named("relay, vkey", self.vkey, self.name)
        require_line("relay, region", self.region, maximum=MAX_REGION_LENGTH, minimum=0)
        if not 1 <= self.weight <= MAX_WEIGHT:
            raise FormatError(f"relay, weight: expected 1 to {MAX_WEIGHT}, found {self.weight}")

    @classmethod
    def read(cls, fields: Fields) -> Relay:
        """The relay that an object of the terms describes, or ``FormatError``."""
        relay = cls(
            name=fields.text("name", MAX_HOST_NAME_LENGTH),
            operator=fields.text("operator", MAX_LINE_LENGTH),
            url=fields.text("url", MAX_URL_LENGTH),
            vkey=_read_key(fields, "vkey"),
            region=fields.text("region", MAX_REGION_LENGTH),
            weight=fields.uint("weight", MAX_WEIGHT),
        )
        fields.end()
        return relay

    def document(self) -> dict[str, Json]:
        """The object that describes this relay."""
        return {
            "name": self.name,
            "operator": self.operator,
            "url": self.url,
            "vkey": self.vkey.format(),
            "region": self.region,
            "weight": self.weight,
        }


@dataclass(frozen=True, slots=True)
class Outage:
    """A time for which the destination says that it could not be reached."""

    since: UnixMillis
    until: UnixMillis

    def __post_init__(self) -> None:
        """Refuse an outage that ends before it begins."""
        if not self.since < self.until:
            raise FormatError(f"outage: expected from < to, found {self.since} and {self.until}")

    @classmethod
    def read(cls, fields: Fields) -> Outage:
        """The outage that an object of the terms describes, or ``FormatError``."""
        outage = cls(since=fields.instant("from"), until=fields.instant("to"))
        fields.end()
        return outage

    def document(self) -> dict[str, Json]:
        """The object that describes this outage."""
        return {"from": self.since, "to": self.until}


@dataclass(frozen=True, slots=True)
class Postmark:
    """That postmarks of relays count during declared outages.

    Attributes:
        quorum: How many operators must have given one, at least two.
    """

    quorum: int

    def __post_init__(self) -> None:
        """Refuse a quorum of one: a single relay is trusted with nothing."""
        if not MIN_POSTMARK_QUORUM <= self.quorum <= MAX_POSTMARK_QUORUM:
            raise FormatError(
                f"postmark, quorum: expected {MIN_POSTMARK_QUORUM} to {MAX_POSTMARK_QUORUM}, "
                f"found {self.quorum}"
            )

    @classmethod
    def read(cls, fields: Fields) -> Postmark:
        """The rule that an object of the terms describes, or ``FormatError``."""
        postmark = cls(quorum=fields.uint("quorum"))
        fields.end()
        return postmark

    def document(self) -> dict[str, Json]:
        """The object that describes this rule."""
        return {"quorum": self.quorum}


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody who cosigns the published checkpoints of a call's log.

    Attributes:
        name: The name of its key.
        operator: Who runs it.
        vkey: Its cosignature key's text; another type than that of notes.
        url: Where it answers, without a slash at the end.
    """

    name: str
    operator: str
    vkey: str
    url: str

    def __post_init__(self) -> None:
        """Refuse fields that no witness has."""
        require_line("witness, operator", self.operator)
        require_base_url(self.url)
        self._require_key()

    def _require_key(self) -> None:
        name, key_id, encoded = [*self.vkey.split("+", 2), "", ""][:3]
        require_key_name(name)
        if name != self.name:
            raise FormatError(f"witness, vkey: expected a key named {self.name!a}, found {name!a}")
        key = decode_base64("witness, vkey", encoded)
        if not key or len(key) - 1 != _WITNESS_KEY_SIZES.get(key[0]):
            raise FormatError("witness, vkey: expected a cosignature key, found another")
        expected = sha256(name.encode() + b"\n" + key)[:KEY_ID_SIZE].hex()
        if key_id != expected:
            raise FormatError(f"witness, vkey: expected key id {expected}, found {key_id[:16]!a}")

    @classmethod
    def read(cls, fields: Fields) -> Witness:
        """The witness that an object of the terms describes, or ``FormatError``."""
        witness = cls(
            name=fields.text("name", MAX_LINE_LENGTH),
            operator=fields.text("operator", MAX_LINE_LENGTH),
            vkey=fields.text("vkey", _MAX_WITNESS_KEY_LENGTH),
            url=fields.text("url", MAX_URL_LENGTH),
        )
        fields.end()
        return witness

    def document(self) -> dict[str, Json]:
        """The object that describes this witness."""
        return {
            "name": self.name,
            "operator": self.operator,
            "vkey": self.vkey,
            "url": self.url,
        }


@dataclass(frozen=True, slots=True)
class Authority:
    """An RFC 3161 authority whose stamps count.

    Attributes:
        certificate: SHA-256 of its DER certificate.
        url: Where it answers, without a slash at the end.
    """

    certificate: bytes
    url: str

    def __post_init__(self) -> None:
        """Refuse fields that no authority has."""
        require_hash("timestamping, certificate", self.certificate)
        require_base_url(self.url)

    @classmethod
    def read(cls, fields: Fields) -> Authority:
        """The authority that an object of the terms describes, or ``FormatError``."""
        authority = cls(
            certificate=fields.hex("certificate", HASH_SIZE),
            url=fields.text("url", MAX_URL_LENGTH),
        )
        fields.end()
        return authority

    def document(self) -> dict[str, Json]:
        """The object that describes this authority."""
        return {"certificate": self.certificate.hex(), "url": self.url}
