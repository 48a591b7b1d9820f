"""Terms: what a destination signs about a call before anybody submits to it.

A note whose text is ``bistro/terms/v1``, the origin and one canonical JSON object, a line each.

Source: docs/spec/terms.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal, cast, get_args

from bistro.crypto.digest import HASH_SIZE, sha256
from bistro.crypto.signing import Note, SigningKey, VerifierKey, sign_note, verify_note
from bistro.errors import FormatError, VerificationError
from bistro.ids import Origin
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.wire.clauses import (
    MAX_LINE_LENGTH,
    MAX_RECIPIENT_LENGTH,
    MAX_RECIPIENTS,
    Authority,
    Keys,
    Outage,
    Postmark,
    Relay,
    Spread,
    Witness,
    require_line,
    require_recipients,
)
from bistro.wire.document import MAX_INTEGER, Fields, Json, encode_json
from bistro.wire.fragment import MAX_ENVELOPE_SIZE
from bistro.wire.manifest import MAX_FILES
from bistro.wire.officers import Officers

SealedUntil = Literal["stage_by", "closes", "none"]
Padding = Literal["none", "padme"]
Filers = Literal["anyone", "registered"]

KIND: Final = "bistro/terms/v1"
MAX_TERMS_SIZE: Final = 262_144
MIN_GRACE_MS: Final = 1_000
MAX_GRACE_MS: Final = 86_400_000
MAX_RELAYS: Final = 255
MAX_WITNESSES: Final = 32
MAX_OUTAGES: Final = 100
MAX_AUTHORITIES: Final = 8
_MAX_TIME_ZONE_LENGTH: Final = 64
_TIME_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(?:/[A-Za-z0-9][A-Za-z0-9_+-]*)*")


def _require_distinct(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise FormatError(f"terms, {what}: expected distinct names, found {name!a} twice")


def _require_range(what: str, number: int, minimum: int, maximum: int) -> None:
    if not minimum <= number <= maximum:
        raise FormatError(f"terms, {what}: expected {minimum} to {maximum}, found {number}")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """One version of the terms of a call, before or without its signature.

    Attributes:
        origin: The call.
        version: Number of this version, from 1.
        supersedes: Terms hash of the version before; ``None`` exactly for version 1.
        title: What people call it.
        opens: From when tickets are given.
        closes: The deadline; a ticket is on time up to ``grace_ms`` later.
        stage_by: Until when k fragments must be with relays.
        repair_by: Until when lost fragments may be staged again.
        sealed_until: What must have passed before anything is opened.
        time_zone: In which times are shown, an IANA name.
        recipients: age public keys, to all of which envelopes are sealed.
        envelope_limit: Most bytes of an envelope.
        files_limit: Most files of a filing.
        tickets_per_filer: Most tickets of one registered filer; ``None`` where anyone files.
        witness_quorum: How many witnesses make a checkpoint witnessed.
        timestamping: Whose RFC 3161 stamps count; null in the text where nobody's do.

    Raises:
        FormatError: A field is not what it must be, alone or beside another.
    """

    origin: Origin
    version: int = 1
    supersedes: bytes | None = None
    title: str
    opens: UnixMillis
    closes: UnixMillis
    grace_ms: int
    stage_by: UnixMillis
    repair_by: UnixMillis
    sealed_until: SealedUntil = "stage_by"
    time_zone: str = "UTC"
    recipients: tuple[str, ...]
    envelope_limit: int
    files_limit: int
    spread: Spread
    padding: Padding = "none"
    filers: Filers = "anyone"
    tickets_per_filer: int | None = None
    keys: Keys
    relays: tuple[Relay, ...]
    postmark: Postmark | None = None
    outages: tuple[Outage, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    witness_quorum: int = 0
    timestamping: tuple[Authority, ...] = ()
    officers: Officers | None = None

    def __post_init__(self) -> None:
        """Refuse terms that contradict themselves."""
        self._require_times()
        self._require_choices()
        self._require_counts()
        require_line("terms, title", self.title)
        require_recipients("terms, recipients", self.recipients)
        self.keys.require_named_for(self.origin)
        if (self.version == 1) != (self.supersedes is None):
            raise FormatError(
                f"terms of version {self.version}: expected supersedes to be null for version 1 "
                "only, found otherwise"
            )
        if self.postmark is not None and self.sealed_until == "closes":
            raise FormatError(
                "terms: expected sealed_until other than closes beside postmark, found closes"
            )

    def _require_times(self) -> None:
        _require_range("grace_ms", self.grace_ms, MIN_GRACE_MS, MAX_GRACE_MS)
        if not 0 <= self.opens < self.closes:
            raise FormatError(
                f"terms: expected opens before closes, found {self.opens} and {self.closes}"
            )
        last_on_time = self.closes + self.grace_ms
        if not last_on_time <= self.stage_by <= self.repair_by <= MAX_INSTANT:
            raise FormatError(
                "terms: expected closes + grace_ms <= stage_by <= repair_by, "
                f"found {last_on_time}, {self.stage_by} and {self.repair_by}"
            )
        for outage, following in pairwise(self.outages):
            if not outage.until <= following.since:
                raise FormatError(
                    "terms, outages: expected none to begin before the end of the one before, "
                    f"found {following.since} after {outage.until}"
                )

    def _require_choices(self) -> None:
        choices = (
            ("sealed_until", self.sealed_until, get_args(SealedUntil)),
            ("padding", self.padding, get_args(Padding)),
            ("filers", self.filers, get_args(Filers)),
        )
        for what, found, allowed in choices:
            if found not in allowed:
                raise FormatError(
                    f"terms, {what}: expected one of {', '.join(allowed)}, found {found!a}"
                )
        if len(self.time_zone) > _MAX_TIME_ZONE_LENGTH or not _TIME_ZONE.fullmatch(self.time_zone):
            raise FormatError(
                "terms, time_zone: expected a name such as Europe/Lisbon, "
                f"found {self.time_zone[:_MAX_TIME_ZONE_LENGTH]!a}"
            )

    def _require_counts(self) -> None:
        _require_range("version", self.version, 1, MAX_INTEGER)
        _require_range("envelope_limit", self.envelope_limit, 1, MAX_ENVELOPE_SIZE)
        _require_range("files_limit", self.files_limit, 1, MAX_FILES)
        _require_range("relays", len(self.relays), 0, MAX_RELAYS)
        _require_range("outages", len(self.outages), 0, MAX_OUTAGES)
        _require_range("witnesses", len(self.witnesses), 0, MAX_WITNESSES)
        _require_range("witness_quorum", self.witness_quorum, 0, len(self.witnesses))
        _require_range("timestamping", len(self.timestamping), 0, MAX_AUTHORITIES)
        _require_distinct("relays", [relay.name for relay in self.relays])
        _require_distinct("witnesses", [witness.name for witness in self.witnesses])
        _require_distinct("timestamping", [one.certificate.hex() for one in self.timestamping])
        if self.tickets_per_filer is not None:
            _require_range("tickets_per_filer", self.tickets_per_filer, 1, MAX_INTEGER)
            if self.filers != "registered":
                raise FormatError(
                    "terms, tickets_per_filer: expected null unless filers are registered, "
                    f"found {self.tickets_per_filer}"
                )

    @classmethod
    def parse(cls, text: bytes) -> Terms:
        """The terms that a note's text states.

        Raises:
            FormatError: It states none, or is not the one text that states them.
        """
        if len(text) > MAX_TERMS_SIZE:
            raise FormatError(f"terms: expected at most {MAX_TERMS_SIZE} bytes, found {len(text)}")
        lines = text.split(b"\n")
        if len(lines) != 4 or lines[0] != KIND.encode() or lines[3]:  # noqa: PLR2004
            raise FormatError(
                f"terms: expected the lines {KIND}, origin and one JSON object, found {text[:32]!r}"
            )
        try:
            origin = Origin.parse(lines[1].decode("ascii"))
        except UnicodeDecodeError as exc:
            raise FormatError(f"terms, origin: expected ASCII, found {lines[1][:32]!r}") from exc
        return cls._read(origin, Fields("terms", lines[2], max_size=MAX_TERMS_SIZE))

    @classmethod
    def _read(cls, origin: Origin, fields: Fields) -> Terms:
        postmark = fields.optional_nested("postmark")
        officers = fields.optional_nested("officers")
        terms = cls(
            origin=origin,
            version=fields.uint("version"),
            supersedes=fields.optional_hex("supersedes", HASH_SIZE),
            title=fields.text("title", MAX_LINE_LENGTH),
            opens=fields.instant("opens"),
            closes=fields.instant("closes"),
            grace_ms=fields.uint("grace_ms"),
            stage_by=fields.instant("stage_by"),
            repair_by=fields.instant("repair_by"),
            sealed_until=cast("SealedUntil", fields.choice("sealed_until", get_args(SealedUntil))),
            time_zone=fields.text("time_zone", _MAX_TIME_ZONE_LENGTH),
            recipients=fields.texts("recipients", MAX_RECIPIENTS, longest=MAX_RECIPIENT_LENGTH),
            envelope_limit=fields.uint("envelope_limit"),
            files_limit=fields.uint("files_limit"),
            spread=Spread.read(fields.nested("spread")),
            padding=cast("Padding", fields.choice("padding", get_args(Padding))),
            filers=cast("Filers", fields.choice("filers", get_args(Filers))),
            tickets_per_filer=fields.optional_uint("tickets_per_filer"),
            keys=Keys.read(fields.nested("keys")),
            relays=tuple(Relay.read(relay) for relay in fields.objects("relays", MAX_RELAYS)),
            postmark=None if postmark is None else Postmark.read(postmark),
            outages=tuple(Outage.read(outage) for outage in fields.objects("outages", MAX_OUTAGES)),
            witnesses=tuple(
                Witness.read(witness) for witness in fields.objects("witnesses", MAX_WITNESSES)
            ),
            witness_quorum=fields.uint("witness_quorum"),
            timestamping=tuple(
                Authority.read(one)
                for one in fields.optional_objects("timestamping", MAX_AUTHORITIES, minimum=1)
            ),
            officers=None if officers is None else Officers.read(officers),
        )
        fields.end()
        return terms

    def document(self) -> dict[str, Json]:
        """The JSON object of these terms."""
        return {
            "version": self.version,
            "supersedes": None if self.supersedes is None else self.supersedes.hex(),
            "title": self.title,
            "opens": self.opens,
            "closes": self.closes,
            "grace_ms": self.grace_ms,
            "stage_by": self.stage_by,
            "repair_by": self.repair_by,
            "sealed_until": self.sealed_until,
            "time_zone": self.time_zone,
            "recipients": self.recipients,
            "envelope_limit": self.envelope_limit,
            "files_limit": self.files_limit,
            "spread": self.spread.document(),
            "padding": self.padding,
            "filers": self.filers,
            "tickets_per_filer": self.tickets_per_filer,
            "keys": self.keys.document(),
            "relays": [relay.document() for relay in self.relays],
            "postmark": None if self.postmark is None else self.postmark.document(),
            "outages": [outage.document() for outage in self.outages],
            "witnesses": [witness.document() for witness in self.witnesses],
            "witness_quorum": self.witness_quorum,
            "timestamping": [one.document() for one in self.timestamping] or None,
            "officers": None if self.officers is None else self.officers.document(),
        }

    @cached_property
    def text(self) -> bytes:
        """The note's text, which is what is signed and hashed."""
        return f"{KIND}\n{self.origin}\n".encode() + encode_json(self.document()) + b"\n"

    @cached_property
    def hash(self) -> bytes:
        """The terms hash: SHA-256 of the text without signatures."""
        return sha256(self.text)

    def relay(self, name: str) -> Relay | None:
        """The relay of this name, if these terms have one."""
        return next((relay for relay in self.relays if relay.name == name), None)


@dataclass(frozen=True)
class SignedTerms:
    """Terms with their signatures, which nobody has checked yet: see ``verify``."""

    terms: Terms
    note: Note

    @classmethod
    def parse(cls, data: bytes) -> SignedTerms:
        """The signed terms that a note holds.

        Raises:
            FormatError: It holds none, or is not the one encoding of its note.
        """
        if len(data) > MAX_TERMS_SIZE:
            raise FormatError(f"terms: expected at most {MAX_TERMS_SIZE} bytes, found {len(data)}")
        note = Note.parse(data)
        return cls(Terms.parse(note.text), note)

    def encode(self) -> bytes:
        """The note, signatures included."""
        return self.note.encode()

    @property
    def origin(self) -> Origin:
        """The call whose terms these are."""
        return self.terms.origin

    @property
    def hash(self) -> bytes:
        """The terms hash; signatures do not change it."""
        return self.terms.hash

    def verify(self, key: VerifierKey) -> None:
        """Check that the holder of a trusted key signed these terms.

        Terms that name another key as ``keys.terms`` pass trust on to it, and must be signed
        by both.

        Args:
            key: The terms key that is trusted, named as the server of these terms.

        Raises:
            VerificationError: It did not, or the key is that of another server.
        """
        if key.name != self.origin.server:
            raise VerificationError(
                f"terms: expected terms of {key.name}, found those of {self.origin.server}"
            )
        verify_note(self.note, key)
        verify_note(self.note, self.terms.keys.terms)


def build(terms: Terms, *keys: SigningKey) -> SignedTerms:
    """Sign ``terms``: with the key that they name, and after a change with the one before, too.

    Raises:
        VerificationError: None of ``keys`` is the one that the terms name.
    """
    signed = SignedTerms.parse(sign_note(terms.text, *keys))
    signed.verify(terms.keys.terms)
    return signed
