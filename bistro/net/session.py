"""One configured HTTP session: trust, time limits, size limits and errors in one place.

Everything that can go wrong between two machines becomes ``UnavailableError`` with its cause:
a total timeout is a plain ``TimeoutError`` and no ``aiohttp.ClientError``, so both are named.
What a peer refuses arrives as the error its problem document names. Messages carry the peer's
name and never a path, which may hold a token.

Redirects are not followed, cookies not kept, compression not asked for, and proxies of the
environment only used where that is asked for: a peer is who its URL says.

Source: docs/spec/api.md; docs/spec/errors.md.
"""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import truststore
from yarl import URL

from bistro import __version__
from bistro.api import routes
from bistro.api.problems import MAX_PROBLEM_SIZE, decode_problem
from bistro.errors import (
    BistroError,
    FormatError,
    SettingsError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.net import socks
from bistro.net.failures import translated
from bistro.net.proxies import proxy_for
from bistro.net.sockets import Sockets

Body = bytes | AsyncIterable[bytes]

DEFAULT_ANSWER_LIMIT = 1_048_576
"""Bytes of an answer that is read as a whole, unless the caller says otherwise."""
CHUNK_SIZE = 262_144

_MAX_FIELD_SIZE = 16_384
"""A receipt comes back in one header field."""
_CONNECTIONS = 64
_CONNECTIONS_PER_HOST = 16
_OK_STATUSES = frozenset({*range(200, 300), HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a request may take.

    Attributes:
        total_s: Until the answer is complete; ``None`` for streams.
        connect_s: Until a connection stands.
        read_s: Between two pieces of the answer, the first included.
    """

    total_s: float | None = 30.0
    connect_s: float = 10.0
    read_s: float = 30.0

    def streaming(self, *, read_s: float | None = None) -> Timeouts:
        """The same for a stream: bounded by silence, not by its length."""
        return Timeouts(None, self.connect_s, self.read_s if read_s is None else read_s)


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; header names ignore case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose body has not been read yet; it is good inside ``Session.stream`` only."""

    status: int
    headers: Mapping[str, str]
    _peer: str
    _content: aiohttp.StreamReader

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body in pieces of at most ``CHUNK_SIZE``.

        Raises:
            UnavailableError: The connection broke, also where the body is shorter than
                announced, or went silent.
        """
        with translated(self._peer):
            while piece := await self._content.read(CHUNK_SIZE):
                yield piece


class Session:
    """Asks peers over HTTP; use it as an asynchronous context manager.

    Args:
        allow_http: Take plain HTTP also to hosts that are not this machine.
        ca_path: PEM file with a private certificate authority, besides the system's.
        timeouts: Limits of a request that names none.
        use_proxies: Ask through the proxy that the environment or the system names, but for
            this machine.
    """

    def __init__(
        self,
        *,
        allow_http: bool = False,
        ca_path: Path | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        use_proxies: bool = False,
    ) -> None:
        self._use_proxies = use_proxies
        self.timeouts = timeouts
        self._allow_http = allow_http
        self._tls = _client_tls(ca_path)
        self._http: aiohttp.ClientSession | None = None
        self._through: dict[URL, aiohttp.ClientSession] = {}
        self._sockets = Sockets()

    async def __aenter__(self) -> Self:
        """Open the pool of connections; none is made yet."""
        connector = aiohttp.TCPConnector(socket_factory=self._sockets.make, **self._pool())
        self._http = self._open(connector)
        return self

    def _pool(self) -> dict[str, Any]:
        return {
            "ssl": self._tls,
            "limit": _CONNECTIONS,
            "limit_per_host": _CONNECTIONS_PER_HOST,
        }

    def _open(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"bistro/{__version__}", "Accept-Encoding": "identity"},
            # With identity asked for, whatever is compressed all the same is malformed.
            auto_decompress=False,
            max_field_size=_MAX_FIELD_SIZE,
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all connections."""
        for one in (self._http, *self._through.values()):
            if one is not None:
                await one.close()
        self._http = None
        self._through.clear()

    def _behind(self, proxy: URL) -> aiohttp.ClientSession:
        """The pool of connections through a SOCKS proxy."""
        if proxy not in self._through:
            self._through[proxy] = self._open(socks.open_connector(proxy, **self._pool()))
        return self._through[proxy]

    def let_go(self, *, only_lost: bool) -> int:
        """End connections, and say how many: all, or those from an address that is gone.

        Requests that are under way on them fail as if the other side had hung up.
        """
        return self._sockets.let_go(only_lost=only_lost)

    def _proxy_for(self, target: URL) -> URL | None:
        is_here = is_loopback(target.host or "")
        return proxy_for(target) if self._use_proxies and not is_here else None

    async def ask(  # noqa: PLR0913 - a request has that many sides
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        limit: int = DEFAULT_ANSWER_LIMIT,
        timeouts: Timeouts | None = None,
        allow_http: bool = False,
    ) -> Answer:
        """Send one request and read its whole answer.

        A timeout means "perhaps done": only what can be repeated harmlessly is sent.
        ``allow_http`` is for what holds no secret and has a signed answer.

        Raises:
            BistroError: What the peer's problem document names.
            FormatError: The answer is longer than ``limit`` bytes.
            SettingsError: The URL is not one that may be asked.
            UnavailableError: No good answer in time.
        """
        async with self.stream(
            method,
            url,
            headers=headers,
            body=body,
            timeouts=timeouts or self.timeouts,
            allow_http=allow_http,
        ) as answer:
            pieces: list[bytes] = []
            size = 0
            async for piece in answer.chunks():
                size += len(piece)
                if size > limit:
                    raise FormatError(
                        f"{_peer_of(URL(url))}: expected an answer of at most {limit} bytes, "
                        "found more"
                    )
                pieces.append(piece)
            return Answer(answer.status, answer.headers, b"".join(pieces))

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        timeouts: Timeouts | None = None,
        allow_http: bool = False,
    ) -> AsyncIterator[Stream]:
        """Send one request and hand out its answer to be read piece by piece.

        Args:
            method: HTTP method.
            url: Where; percent-encoding in it is kept as it stands.
            headers: Header fields; for a body that is iterated, give ``Content-Length``.
            body: What to send; pieces are taken from an iterable as the network takes them.
            timeouts: Instead of the session's, made ``streaming``.
            allow_http: Take plain HTTP to any host, whatever the session takes.

        Raises:
            BistroError: As ``ask``. What the body's iterable raises arrives unchanged.
        """
        target = require_usable_url(url, allow_http=allow_http or self._allow_http)
        peer = _peer_of(target)
        http = self._http
        if http is None:
            raise RuntimeError("the session is not open")
        limits = timeouts or self.timeouts.streaming()
        proxy = self._proxy_for(target)
        with contextlib.ExitStack() as failures:
            failures.enter_context(translated(peer))
            if proxy is not None and proxy.scheme in socks.SCHEMES:
                http = self._behind(proxy)
                failures.enter_context(socks.translated(peer, proxy))
                proxy = None
            response = await http.request(
                method,
                target,
                headers=headers,
                data=body,
                allow_redirects=False,
                proxy=proxy,
                timeout=aiohttp.ClientTimeout(
                    total=limits.total_s,
                    sock_connect=limits.connect_s,
                    sock_read=limits.read_s,
                ),
            )
        try:
            if response.status not in _OK_STATUSES:
                raise await _refusal(response, peer)
            yield Stream(response.status, response.headers, peer, response.content)
        finally:
            # A connection whose answer was not read to its end cannot be used again.
            if not response.content.at_eof():
                response.close()
            response.release()


def require_usable_url(url: str, *, allow_http: bool = False) -> URL:
    """The URL, if it is HTTPS, or plain HTTP to this machine or with ``allow_http``.

    Raises:
        SettingsError: Anything else.
    """
    try:
        target = URL(url, encoded=True)
        host = target.host
    except ValueError as exc:
        raise SettingsError(f"URL {url!r}: {exc}") from exc
    if target.scheme not in {"http", "https"} or not host:
        raise SettingsError(
            f"URL {url!r}: expected an address that begins with https://",
            hint="give the whole address, such as https://files.example.org",
        )
    if target.user is not None or target.password is not None:
        raise SettingsError(f"URL of {host}: expected no user name or password in it")
    if target.scheme == "http" and not allow_http and not is_loopback(host):
        raise SettingsError(
            f"URL {url!r}: plain HTTP is taken to this machine only",
            hint="use https://, or --allow-http on a network you trust",
        )
    return target


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine and nothing else."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _client_tls(ca_path: Path | None) -> ssl.SSLContext:
    """The system's own trust, as browsers on this machine have it, and one private authority."""
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_path is not None:
        try:
            context.load_verify_locations(cafile=ca_path)
        except OSError as exc:  # ssl.SSLError is one
            raise SettingsError(
                f"certificate authority {ca_path}: {exc.strerror or exc}",
                hint="give a PEM file with certificates",
            ) from exc
    return context


async def _refusal(response: aiohttp.ClientResponse, peer: str) -> BistroError:
    """The error that an answer with another status than asked for stands for."""
    if response.method == "HEAD":
        return _bodiless_refusal(response.status, peer)
    body = b""
    with translated(peer):
        while piece := await response.content.read(MAX_PROBLEM_SIZE + 1 - len(body)):
            body += piece
    error = decode_problem(
        body,
        status=response.status,
        content_type=response.headers.get("Content-Type"),
        peer=peer,
    )
    if isinstance(error, UnavailableError):
        error.is_answer = True
        error.sisters = response.headers.get(routes.SISTERS)
    if isinstance(error, StorageError | SettingsError):
        # It is the peer's disk that failed: here these classes mean our own, and stop a daemon.
        return UnavailableError(f"{peer}: {error.message}", hint="try again later")
    return error


def _bodiless_refusal(status: int, peer: str) -> BistroError:
    """What the status alone says: the answer to HEAD has no problem document."""
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return UnknownObjectError(f"{peer}: there is no such object any more")
    return UnavailableError(f"{peer}: answered HTTP {status}", hint="try again later")


def _peer_of(url: URL) -> str:
    return url.authority or "peer"
