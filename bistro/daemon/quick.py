"""The quick way for one small request: its head is recognised, its body read, no more.

Clients that ask the same thing many times send the same head every time. So a head that was
found good once is known by its bytes; only new ones are read, by rules that are stricter than
HTTP's. Whatever is not exactly a quick request, by a single byte, goes to the ordinary server.
The heads of two GETs differ in what is asked for, so of those all after the first line is known.

Source: docs/spec/api.md, rules for all routes; RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bistro.api import media, problems, routes
from bistro.clock import Clock
from bistro.daemon.buckets import Bucket
from bistro.daemon.bursts import Answer, Burst
from bistro.daemon.caching import BRIEFLY, NEVER, entity_tag, is_known
from bistro.errors import BistroError
from bistro.instant import UnixMillis

MAX_HEAD_SIZE: Final = 65_536
"""An unfinished head that is longer is left to the ordinary server, which has limits of its own."""

_MAX_KNOWN_SIZE: Final = 1_024
_MAX_KNOWN: Final = 1_024
_MAX_FIELDS: Final = 64
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*)")
_TEMPLATE_FIELD: Final = re.compile(r"\{(\w+)\}")
_NAME: Final = "([a-z0-9-]{1,63})"
_PATTERNS: Final = {"commitment": "([0-9a-f]{64})"}
_GET: Final = b"GET "
_LINE_END: Final = b"\r\n"
_LENGTH: Final = re.compile(rb"[1-9][0-9]{0,8}")
_ONCE: Final = (b"host", b"content-length", b"content-type")
_ONCE_AT_MOST: Final = frozenset((*_ONCE, b"connection", b"if-none-match", b"x-forwarded-for"))
_UNUSUAL: Final = frozenset(
    (
        b"content-encoding",
        b"content-range",
        b"expect",
        b"proxy-connection",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


@dataclass(frozen=True, slots=True)
class Page:
    """An answer that may be cached for a moment.

    Attributes:
        body: All of it.
        tag: Its entity tag, in quotes.
        is_known: Whether who asked has it already.
        cache_control: For how long it may be kept, as the field says it.
    """

    body: bytes
    tag: str
    is_known: bool
    cache_control: str = BRIEFLY

    @classmethod
    def of(cls, body: bytes, known_tags: str, cache_control: str = BRIEFLY) -> Page:
        """The answer to a request whose ``If-None-Match`` is ``known_tags``."""
        tag = entity_tag(body)
        return cls(body, tag, bool(known_tags) and is_known(tag, known_tags), cache_control)


class Exchange(Protocol):
    """One request, and the way back.

    Attributes:
        address: Where it came from, for fairness.
        bucket: What it may ask for, if that is limited.
        received_at: When its last byte had been read.
    """

    address: str
    bucket: Bucket | None
    received_at: UnixMillis

    @property
    def known_tags(self) -> str:
        """Its ``If-None-Match``, or nothing."""
        ...

    def tell(self, answer: Answer | Page) -> None:
        """Answer with a body, or a problem document; later than the first does nothing."""


class Pending(Protocol):
    """What waits for an answer."""

    def leave(self) -> None:
        """Nobody waits any more; after the answer this does nothing."""


@dataclass(frozen=True, slots=True)
class Gathering:
    """How requests of one size are answered together.

    Attributes:
        size: Bytes of their bodies, exactly.
        begin: Takes the field's value and all such requests that one pass of the event loop
            read; may raise a ``BistroError``, which then answers each of them.
    """

    size: int
    begin: Callable[[str, Burst], None]


@dataclass(frozen=True)
class QuickEndpoint:
    """A route that is answered the quick way.

    Attributes:
        route: POST, with one field at most, a call id; or GET.
        media_type: Of the request's body.
        max_size: Bytes of a body at most; 0: there is none, as with GET.
        begin: Takes the field's value, or those of a GET with slashes in between, the body and
            the exchange, which may be told an answer at once: then there is nothing that waits.
            May raise a ``BistroError``.
        answer_type: Media type of a good answer; that of the request if it is not given.
        gathering: How requests of one size are answered together, if they are.
    """

    route: routes.Route
    media_type: str
    max_size: int
    begin: Callable[[str, bytes, Exchange], Pending | None]
    answer_type: str = ""
    gathering: Gathering | None = None


@dataclass(frozen=True, slots=True)
class QuickHead:
    """What a recognised head says.

    Attributes:
        text: The head, up to and with its empty line.
        endpoint: What is asked.
        field: The value of the route's field.
        size: Bytes of the body.
        known_tags: ``If-None-Match`` of a GET, or nothing.
        forwarded: ``X-Forwarded-For`` of another request, or nothing.
    """

    text: bytes
    endpoint: QuickEndpoint
    field: str
    size: int
    known_tags: str = ""
    forwarded: str = ""


class Heads:
    """Recognises heads.

    Args:
        endpoints: Those that are answered the quick way.
        clock: Says when requests are received.

    Attributes:
        received: The time now; asked when bytes have been read.
    """

    def __init__(self, endpoints: Sequence[QuickEndpoint], clock: Clock) -> None:
        self.received = clock.now
        self._known: dict[bytes, QuickHead] = {}
        targets = [(_target_of(one.route), one) for one in endpoints]
        self._endpoints = [pair for pair in targets if pair[1].route.method != "GET"]
        self._pages = [pair for pair in targets if pair[1].route.method == "GET"]
        self._known_rests: dict[bytes, str | None] = {}

    def read(self, head: bytes) -> QuickHead | None:
        """What ``head``, up to and with its empty line, says; ``None``: not for the quick way."""
        if head.startswith(_GET):
            return self._read_page(head)
        found = self._known.get(head)
        if found is None:
            found = self._read(head)
            if found is not None and len(head) <= _MAX_KNOWN_SIZE:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[head] = found
        return found

    def _read(self, head: bytes) -> QuickHead | None:
        line, *lines = head[:-4].split(b"\r\n")
        for target, endpoint in self._endpoints:
            match = target.fullmatch(line + _LINE_END)
            fields = _fields(lines) if match else None
            if match and fields and _is_usual(fields, endpoint):
                size = int(fields[b"content-length"])
                field = match[1].decode() if match.re.groups else ""
                if size <= endpoint.max_size:
                    forwarded = fields.get(b"x-forwarded-for", b"").decode("ascii")
                    return QuickHead(head, endpoint, field, size, forwarded=forwarded)
        return None

    def _read_page(self, head: bytes) -> QuickHead | None:
        for target, endpoint in self._pages:
            if match := target.match(head):
                known_tags = self._read_rest(head[match.end() :])
                if known_tags is not None:
                    field = b"/".join(match.groups()).decode("ascii")
                    return QuickHead(head, endpoint, field, 0, known_tags)
        return None

    def _read_rest(self, rest: bytes) -> str | None:
        """``If-None-Match`` in what follows a GET line; ``None``: not for the quick way."""
        if rest in self._known_rests:
            return self._known_rests[rest]
        fields = _fields(rest[:-4].split(_LINE_END))
        is_usual = fields is not None and _is_usual_get(fields)
        found = fields.get(b"if-none-match", b"").decode("ascii") if fields and is_usual else None
        if len(rest) <= _MAX_KNOWN_SIZE:
            if len(self._known_rests) >= _MAX_KNOWN:
                self._known_rests.clear()
            self._known_rests[rest] = found
        return found


def _target_of(route: routes.Route) -> re.Pattern[bytes]:
    """The first line of such requests, with its end."""
    parts = _TEMPLATE_FIELD.split(route.template)
    parts[::2] = map(re.escape, parts[::2])
    parts[1::2] = [_PATTERNS.get(name, _NAME) for name in parts[1::2]]
    return re.compile(f"{route.method} {''.join(parts)} HTTP/1\\.1\r\n".encode())


def _fields(lines: Sequence[bytes]) -> dict[bytes, bytes] | None:
    """The fields, names in lower case; ``None`` where one is odd, or one that rules repeats."""
    found: dict[bytes, bytes] = {}
    if len(lines) > _MAX_FIELDS:
        return None
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            return None
        name = match[1].lower()
        if name in _UNUSUAL or (name in found and name in _ONCE_AT_MOST):
            return None
        found[name] = match[2].rstrip(b" \t")
    return found


def _is_usual(fields: Mapping[bytes, bytes], endpoint: QuickEndpoint) -> bool:
    return (
        all(fields.get(name) for name in _ONCE)
        and _LENGTH.fullmatch(fields[b"content-length"]) is not None
        and media.essence(fields[b"content-type"].decode("ascii")) == endpoint.media_type
        and fields.get(b"connection", b"keep-alive").lower() == b"keep-alive"
    )


def _is_usual_get(fields: Mapping[bytes, bytes]) -> bool:
    return (
        bool(fields.get(b"host"))
        and b"content-length" not in fields
        and fields.get(b"connection", b"keep-alive").lower() == b"keep-alive"
    )


def answer_head(media_type: str, date: str) -> bytes:
    """The beginning of a good answer's head, up to its id; one for all answers of a second."""
    return _head("200 OK", {"Content-Type": media_type, "Cache-Control": NEVER}, date)


def page_head(media_type: str, date: str, page: Page) -> bytes:
    """As ``answer_head``, for a page; who has it already gets no other."""
    fields = {"Cache-Control": page.cache_control}
    if page.is_known:
        return _head("304 Not Modified", fields, date)
    return _head("200 OK", {"Content-Type": media_type, **fields}, date)


def page_end(request_id: bytes, page: Page) -> bytes:
    """The end of a page's head, and its body."""
    tag = page.tag.encode("ascii")
    if page.is_known:
        return b"%b\r\nETag: %b\r\n\r\n" % (request_id, tag)
    size = len(page.body)
    return b"%b\r\nETag: %b\r\nContent-Length: %d\r\n\r\n%b" % (request_id, tag, size, page.body)


def problem_answer(error: BistroError, *, date: str, request_id: bytes, is_last: bool) -> bytes:
    """The whole answer that reports ``error``; the last one of its connection says so."""
    fields = problems.problem_headers(error)
    if is_last:
        fields["Connection"] = "close"
    body = problems.encode_problem(error)
    status = f"{error.http_status} {error.code}"
    return _head(status, fields, date) + answer_end(request_id, len(body)) + body


def answer_end(request_id: bytes, size: int) -> bytes:
    """The end of a head."""
    return b"%b\r\nContent-Length: %d\r\n\r\n" % (request_id, size)


def _head(status: str, fields: Mapping[str, str], date: str) -> bytes:
    every = {
        **fields,
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": ", ".join(routes.EXPOSED_FIELDS),
        "X-Content-Type-Options": "nosniff",
        "Server": "bistro",
        "Date": date,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    return f"HTTP/1.1 {status}\r\n{lines}{routes.REQUEST_ID}: ".encode()
