"""Entries of every ledger: the leaf data of tickets, receipts and all other promises.

An entry is ASCII text, so that anybody can rebuild it with ``printf``: kind, ledger origin,
time, hash, then the lines of its kind, each ending in LF.

| kind | ledger origin | hash | further lines |
|---|---|---|---|
| terms, closed, opening | ``<server>/<call>`` | terms | |
| ticket | ``<server>/<call>`` | commitment | ``admission sha256:<hex>`` or none |
| postmarked | ``<server>/<call>`` | commitment | ``at <ms>``, ``bundle sha256:<hex>`` |
| refused | ``<server>/<call>/refusals`` | commitment | ``reason <code>`` |
| postmark | ``<relay>/postmarks`` | commitment | ``for <server>/<call>`` |
| receipt | ``<relay>/custody/<server>/<call>`` | commitment | ``fragment <index> <size> sha256:<hex>``, ``hold-until <ms>`` |
| held | as receipt | commitment | ``fragment <index>``, ``hold-until <ms>`` |
| released | as receipt | commitment | ``fragment <index>``, then by what: see ``ReleasedEntry`` |

Source: docs/spec/promises.md, entries.
"""  # noqa: E501 - the table's rows are lines

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from bistro.errors import FormatError
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.wire.lines import DECIMAL, HASH, MAX_NUMBER, require_hash, require_number

MAX_ENTRY_SIZE: Final = 1_024
"""No entry is longer: names have limits, and a tile's length field would allow 65,535."""

MAX_FRAGMENT_INDEX: Final = 254
"""Fragments are numbered from 0; an envelope has at most 255."""

REASONS: Final = frozenset({"deadline-passed", "no-outage", "tickets-per-filer"})
"""Why a destination signs a refusal; anything else is answered without an entry."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = rf"(?=[a-z0-9.-]{{1,253}}(?:/|\Z)){_LABEL}(?:\.{_LABEL})+"
_CALL = rf"{_HOST}/{_LABEL}"
_ENTRY = re.compile(rf"bistro/([a-z]+)/v1\n([^\n]+)\n{DECIMAL}\n{HASH}\n((?:[^\n]+\n)*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(ABC):
    """What all entries have.

    Attributes:
        origin: The ledger's origin; its shape depends on the kind.
        time: When the ledger's owner says it happened; never decreases with the index.
        digest: 32 bytes, a commitment or a terms hash.
    """

    KIND: ClassVar[str]
    ORIGIN: ClassVar[re.Pattern[str]] = re.compile(_CALL)
    TAIL: ClassVar[re.Pattern[str]] = re.compile("")
    LIMITS: ClassVar[Mapping[str, int]] = {}

    origin: str
    time: UnixMillis
    digest: bytes

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        if type(self.origin) is not str or self.ORIGIN.fullmatch(self.origin) is None:
            raise FormatError(f"{self.KIND} entry: origin {self.origin!r} is not one of its kind")
        require_number(f"{self.KIND} entry: time", self.time, maximum=MAX_INSTANT)
        require_hash(f"{self.KIND} entry: hash", self.digest)
        if self.TAIL.fullmatch(self._tail()) is None:
            raise FormatError(f"{self.KIND} entry: malformed line in {self._tail()!r:.200}")
        for name, maximum in self.LIMITS.items():
            require_number(f"{self.KIND} entry: {name}", getattr(self, name), maximum=maximum)

    def encode(self) -> bytes:
        """The leaf data, ASCII, at most ``MAX_ENTRY_SIZE`` bytes."""
        head = f"bistro/{self.KIND}/v1\n{self.origin}\n{self.time}\nsha256:{self.digest.hex()}\n"
        return (head + self._tail()).encode("ascii")

    @abstractmethod
    def _tail(self) -> str:
        """The lines after the fourth."""

    @classmethod
    @abstractmethod
    def _read(cls, origin: str, time: UnixMillis, digest: bytes, tail: re.Match[str]) -> Self:
        """The entry whose further lines matched ``TAIL``."""


class _PlainEntry(Entry):
    """An entry without further lines."""

    __slots__ = ()

    def _tail(self) -> str:
        return ""

    @classmethod
    def _read(cls, origin: str, time: UnixMillis, digest: bytes, tail: re.Match[str]) -> Self:
        del tail
        return cls(origin=origin, time=time, digest=digest)


class TermsEntry(_PlainEntry):
    """A version of the terms came into force; index 0 is version 1."""

    __slots__ = ()
    KIND = "terms"


class ClosedEntry(_PlainEntry):
    """The call closed under the terms it names; a later one supersedes it."""

    __slots__ = ()
    KIND = "closed"


class OpeningEntry(_PlainEntry):
    """Opening began: the log's last entry."""

    __slots__ = ()
    KIND = "opening"


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketEntry(Entry):
    """A commitment arrived; ``admission`` is the hash of one in registered calls."""

    KIND = "ticket"
    TAIL = re.compile(rf"(?:admission {HASH}\n)?")

    admission: bytes | None = None

    def _tail(self) -> str:
        return "" if self.admission is None else f"admission sha256:{self.admission.hex()}\n"

    @classmethod
    def _read(cls, origin: str, time: UnixMillis, digest: bytes, tail: re.Match[str]) -> Self:
        admission = None if tail[1] is None else bytes.fromhex(tail[1])
        return cls(origin=origin, time=time, digest=digest, admission=admission)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostmarkedEntry(Entry):
    """A commitment admitted by postmarks; ``at`` is its effective time."""

    KIND = "postmarked"
    TAIL = re.compile(rf"at {DECIMAL}\nbundle {HASH}\n")
    LIMITS: ClassVar[Mapping[str, int]] = {"at": MAX_INSTANT}

    at: UnixMillis
    bundle: bytes

    def _tail(self) -> str:
        return f"at {self.at}\nbundle sha256:{self.bundle.hex()}\n"

    @classmethod
    def _read(cls, origin: str, time: UnixMillis, digest: bytes, tail: re.Match[str]) -> Self:
        at, bundle = UnixMillis(int(tail[1])), bytes.fromhex(tail[2])
        return cls(origin=origin, time=time, digest=digest, at=at, bundle=bundle)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEntry(Entry):
    """A commitment was refused, for a reason from ``REASONS``."""

    KIND = "refused"
    ORIGIN = re.compile(rf"{_CALL}/refusals")
    TAIL = re.compile(rf"reason ({'|'.join(sorted(REASONS))})\n")

    reason: str

    def _tail(self) -> str:
        return f"reason {self.reason}\n"

    @classmethod
    def _read(cls, origin: str, time: UnixMillis, digest: bytes, tail: re.Match[str]) -> Self:
        return cls(origin=origin, time=time, digest=digest, reason=tail[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class PostmarkEntry(Entry):
    """A relay saw a commitment for the call ``call_origin``."""

    KIND = "postmark"
    ORIGIN = re.compile(rf"{_HOST}/postmarks")
    TAIL = re.compile(rf"for ({_CALL})\n")

    call_origin: str

    def _tail(self) -> str:
        return f"for {self.call_origin}\n"

    @classmethod
    def _read(cls, origin: str, time: UnixMillis, digest: bytes, tail: re.Match[str]) -> Self:
        return cls(origin=origin, time=time, digest=digest, call_origin=tail[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyEntry(Entry):
    """What a relay's custody ledger says about fragment ``index`` of a commitment."""

    ORIGIN = re.compile(rf"{_HOST}/custody/{_CALL}")
    LIMITS: ClassVar[Mapping[str, int]] = {"index": MAX_FRAGMENT_INDEX}

    index: int

    @property
    def relay(self) -> str:
        """The name of the relay that keeps the ledger."""
        return self.origin.split("/", 1)[0]

    @property
    def call_origin(self) -> str:
        """The call whose fragment is kept."""
        return self.origin.split("/", 2)[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptEntry(CustodyEntry):
    """A relay holds ``size`` bytes with hash ``fragment_hash`` until ``hold_until``."""

    KIND = "receipt"
    TAIL = re.compile(rf"fragment {DECIMAL} {DECIMAL} {HASH}\nhold-until {DECIMAL}\n")
    LIMITS: ClassVar[Mapping[str, int]] = {
        "index": MAX_FRAGMENT_INDEX,
        "size": MAX_NUMBER,
        "hold_until": MAX_INSTANT,
    }

    size: int
    fragment_hash: bytes
    hold_until: UnixMillis

    def _tail(self) -> str:
        return (
            f"fragment {self.index} {self.size} sha256:{self.fragment_hash.hex()}\n"
            f"hold-until {self.hold_until}\n"
        )

    @classmethod
    def _read(cls, origin: str, time: UnixMillis, digest: bytes, tail: re.Match[str]) -> Self:
        return cls(
            origin=origin,
            time=time,
            digest=digest,
            index=int(tail[1]),
            size=int(tail[2]),
            fragment_hash=bytes.fromhex(tail[3]),
            hold_until=UnixMillis(int(tail[4])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEntry(CustodyEntry):
    """A relay holds the fragment longer than its receipt says."""

    KIND = "held"
    TAIL = re.compile(rf"fragment {DECIMAL}\nhold-until {DECIMAL}\n")
    LIMITS: ClassVar[Mapping[str, int]] = {"index": MAX_FRAGMENT_INDEX, "hold_until": MAX_INSTANT}

    hold_until: UnixMillis

    def _tail(self) -> str:
        return f"fragment {self.index}\nhold-until {self.hold_until}\n"

    @classmethod
    def _read(cls, origin: str, time: UnixMillis, digest: bytes, tail: re.Match[str]) -> Self:
        index, until = int(tail[1]), UnixMillis(int(tail[2]))
        return cls(origin=origin, time=time, digest=digest, index=index, hold_until=until)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedEntry(CustodyEntry):
    """A relay let a fragment go.

    Attributes:
        request: SHA-256 of the destination's signed release, if that is why.
        takedown: SHA-256 of the operator's signed takedown, if that is why; with neither, the
            hold expired.
    """

    KIND = "released"
    TAIL = re.compile(rf"fragment {DECIMAL}\nby (?:released {HASH}|taken-down {HASH}|expired)\n")

    request: bytes | None
    takedown: bytes | None = None

    def _tail(self) -> str:
        by = "expired"
        if self.request is not None:
            by = f"released sha256:{self.request.hex()}"
        elif self.takedown is not None:
            by = f"taken-down sha256:{self.takedown.hex()}"
        return f"fragment {self.index}\nby {by}\n"

    @classmethod
    def _read(cls, origin: str, time: UnixMillis, digest: bytes, tail: re.Match[str]) -> Self:
        named = tail.group(2, 3)
        request, takedown = (None if one is None else bytes.fromhex(one) for one in named)
        return cls(
            origin=origin,
            time=time,
            digest=digest,
            index=int(tail[1]),
            request=request,
            takedown=takedown,
        )


_KINDS: Final[dict[str, type[Entry]]] = {
    cls.KIND: cls
    for cls in (
        TermsEntry,
        TicketEntry,
        PostmarkedEntry,
        ClosedEntry,
        OpeningEntry,
        RefusedEntry,
        PostmarkEntry,
        ReceiptEntry,
        HeldEntry,
        ReleasedEntry,
    )
}


def decode_entry(data: bytes) -> Entry:
    """The entry that ``data`` is the one encoding of.

    Raises:
        FormatError: Anything else: another kind, a longer text, CR, leading zeros.
    """
    if len(data) > MAX_ENTRY_SIZE:
        raise FormatError(f"entry: expected at most {MAX_ENTRY_SIZE} bytes, found {len(data)}")
    match = _ENTRY.fullmatch(data.decode("latin-1"))
    if match is None:
        raise FormatError(f"entry: expected kind, origin, time and hash lines, found {data[:80]!r}")
    cls = _KINDS.get(match[1])
    if cls is None:
        raise FormatError(f"entry: unknown kind {match[1][:40]!r}")
    tail = cls.TAIL.fullmatch(match[5])
    if tail is None:
        raise FormatError(f"{cls.KIND} entry: malformed lines {match[5][:200]!r}")
    time = UnixMillis(int(match[3]))
    return cls._read(match[2], time, bytes.fromhex(match[4]), tail)
