"""Binds sockets and serves an app on them: the ``http`` part of a daemon.

Sockets are bound before anything runs, so that a port in use stops the daemon at once, a
free port (0) is known before it is announced, and connections that arrive early wait in the
kernel instead of being refused.

Source: docs/architecture.md, Background work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bistro.clock import SystemClock
from bistro.daemon import addresses, logs, supervise
from bistro.daemon.activation import passed_listener
from bistro.daemon.addresses import Addresses
from bistro.daemon.bodies import UNFINISHED
from bistro.daemon.connection import Connection
from bistro.daemon.direct import new_poller
from bistro.daemon.front import Front, Limits
from bistro.daemon.outbox import Outbox
from bistro.daemon.passing import Passage
from bistro.daemon.peers import Peers
from bistro.daemon.polling import PolledListener
from bistro.daemon.preface import Introduction
from bistro.daemon.quick import Heads
from bistro.daemon.settings import HttpSettings
from bistro.daemon.tls import ServerTls
from bistro.daemon.web import ALARM, observer
from bistro.daemon.workers import WorkerPart, worker_parts
from bistro.errors import SettingsError
from bistro.storage.finishing import finish

MAX_LINE_SIZE = 8_190
MAX_FIELD_SIZE = 16_384
"""A claim of 6,144 bytes is 8,192 characters of base64 within one header field."""
MAX_HEADERS_COUNT = 64

_SOCKET_MODE = 0o600
_OTHER_FILES = 512

_log = logs.get_logger("http")


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whether a line of the HTTP library is worth a line of ours.

    Bytes that are no HTTP have been answered with 400, and whoever hung up needs no answer: a
    traceback for each would let anybody fill the disk with logs.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | ConnectionError)


logging.getLogger("aiohttp.server").addFilter(_is_our_fault)


def bind_tcp(*, host: str, port: int, backlog: int = 1_024) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        SettingsError: The address is not ours, or the port is taken or privileged.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=backlog)
    except OSError as exc:
        raise SettingsError(
            f"cannot listen on {host}:{port}: {exc.strerror or exc}",
            hint="choose another host or port in [http], or stop what uses it",
        ) from exc


def bind_unix(path: Path, *, backlog: int = 128) -> socket.socket:
    """A listening Unix socket that only our own user may use.

    A socket file that a killed process left behind is replaced; the caller holds the lock
    that says there is no living one.

    Raises:
        SettingsError: The path is too long for a socket, or its folder cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(_SOCKET_MODE)
        listener.listen(backlog)
    except OSError as exc:
        listener.close()
        raise SettingsError(f"cannot listen on {path}: {exc.strerror or exc}") from exc
    return listener


def server_tls(settings: HttpSettings) -> ServerTls | None:
    """What serves TLS with the settings' certificate, or ``None`` for plain HTTP.

    Raises:
        SettingsError: Certificate or key cannot be read, or do not belong together.
    """
    if settings.certificate_path is None or settings.key_path is None:
        return None
    return ServerTls(settings.certificate_path, settings.key_path)


def room_for_connections(wanted: int) -> int:
    """How many connections this process may have, at most ``wanted``.

    Each is an open file, and ledgers and databases need some too: a process without one left
    could not write, and would have to stop. So the soft limit is raised where that is allowed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return min(wanted, max(soft - _OTHER_FILES, soft // 2))
    return wanted


@dataclass(frozen=True)
class HttpPart:
    """Serves ``app`` on a listening socket until it is cancelled.

    Attributes:
        app: What answers.
        listener: From ``bind_tcp`` or ``bind_unix``.
        identity: From ``server_tls``; ``None`` where there is no TLS.
        idle_timeout_s: A connection without a request for this long is closed.
        grace_s: How long open requests may take once the part is stopped.
        request_timeout_s: Total time of a quick request.
        quick: What is answered without ``app``.
        connections_limit: Connections at the same time; one address may have half of them.
        peers: Knows what each address may ask for.
        relayed: From ``bind_unix``, where workers pass on what they take from ``listener``;
            ``None``: this process takes it itself.
        workers: The parts that keep those workers, by name; run them beside this one.
    """

    app: web.Application
    listener: socket.socket
    identity: ServerTls | None = None
    idle_timeout_s: float = 60.0
    grace_s: float = 10.0
    backlog: int = 1_024
    request_timeout_s: float = 30.0
    quick: Heads = field(default_factory=lambda: Heads((), SystemClock()))
    connections_limit: int = addresses.DEFAULT_LIMIT
    peers: Peers = field(default_factory=Peers)
    relayed: socket.socket | None = None
    workers: Mapping[str, WorkerPart] = field(default_factory=dict)

    @classmethod
    def bind(
        cls,
        app: web.Application,
        settings: HttpSettings,
        *,
        inner: Path | None = None,
        quick: Heads | None = None,
        peers: Peers | None = None,
    ) -> HttpPart:
        """A part that listens where the settings say; sockets are bound now.

        A socket that the service manager passed on is taken instead.

        Args:
            app: What answers.
            settings: Where, how, and with how many workers.
            inner: Where the Unix socket for workers is made; ``None``: there may be none.
            quick: What is answered without ``app``.
            peers: Knows what each address may ask for; ``None``: nobody is limited.

        Raises:
            SettingsError: A socket cannot be bound, or the certificate cannot be used.
        """
        identity = server_tls(settings)
        listener = passed_listener() or bind_tcp(
            host=settings.host, port=settings.port, backlog=settings.backlog_count
        )
        relayed, workers = None, dict[str, WorkerPart]()
        if settings.workers_count and inner is not None:
            try:
                workers = worker_parts(settings, listener, inner)
                relayed = bind_unix(inner, backlog=settings.backlog_count)
            except SettingsError:
                listener.close()
                raise
        return cls(
            app,
            listener,
            identity,
            relayed=relayed,
            workers=workers,
            idle_timeout_s=settings.idle_timeout_s,
            grace_s=settings.grace_s,
            backlog=settings.backlog_count,
            request_timeout_s=settings.request_timeout_s,
            quick=quick or Heads((), SystemClock()),
            connections_limit=settings.connections_count,
            peers=peers or Peers(),
        )

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What listens with TLS, if anything does."""
        return None if self.identity is None else self.identity.context

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return int(self.listener.getsockname()[1])

    async def run(self) -> None:
        """Serve until cancelled, then finish open requests.

        Raises:
            StorageError: A handler met one; nothing may be promised any more.
        """
        runner = web.AppRunner(
            self.app,
            handle_signals=False,
            access_log=None,
            keepalive_timeout=self.idle_timeout_s,
            shutdown_timeout=self.grace_s,
            max_line_size=MAX_LINE_SIZE,
            max_field_size=MAX_FIELD_SIZE,
            max_headers=MAX_HEADERS_COUNT,
            # A compressed body stays as it is and is malformed: it could grow without limit.
            auto_decompress=False,
        )
        await runner.setup()
        front = self._front(runner)
        server: asyncio.Server | PolledListener | None = None
        try:
            # To its end: a listener that is closed halfway through stays registered with the loop,
            # and the next socket of the same number would never be polled.
            server = await finish(self._listen(front))
            _log.info("listening_started", **self._place())
            moving = (server.run(),) if isinstance(server, PolledListener) else ()
            watched = () if self.identity is None else (self.identity.run(),)
            await _first_error(front.run(), self.app[ALARM].wait(), *watched, *moving)
        finally:
            if server is not None:
                server.close()
            # Shielded from nothing on purpose: a second cancellation ends the grace.
            try:
                await front.drain(self.grace_s)
            finally:
                await runner.cleanup()
                for socket_ in filter(None, (self.listener, self.relayed)):
                    with contextlib.suppress(OSError):
                        socket_.close()

    def _front(self, runner: web.AppRunner) -> Front:
        ordinary = cast("Callable[[], asyncio.Protocol]", runner.server)
        unfinished = self.app[UNFINISHED]
        now_s = asyncio.get_running_loop().time
        outbox = Outbox(observer(self.app), self.app[ALARM].sound, now_s)
        limits = Limits(
            idle_s=self.idle_timeout_s,
            request_s=self.request_timeout_s,
            addresses=Addresses(room_for_connections(self.connections_limit)),
            unfinished=unfinished,
            peers=self.peers,
        )
        return Front(self.quick, Passage(ordinary, unfinished).protocol, outbox, limits)

    async def _listen(self, front: Front) -> asyncio.Server | PolledListener:
        loop = asyncio.get_running_loop()
        if self.relayed is not None:
            return await loop.create_unix_server(
                lambda: Introduction(lambda: Connection(front)),
                sock=self.relayed,
                backlog=self.backlog,
            )
        # What ends TLS is the event loop's.
        front.outbox.poller = poller = None if self.tls else new_poller()
        if poller is not None:
            return PolledListener(self.listener, poller, lambda: Connection(front))
        return await loop.create_server(
            lambda: Connection(front), sock=self.listener, ssl=self.tls, backlog=self.backlog
        )

    def _place(self) -> dict[str, str | int]:
        name = self.listener.getsockname()
        return {"host": name[0], "port": name[1]} if isinstance(name, tuple) else {"host": "unix"}


async def _first_error(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until one raises, and raise that."""
    async with supervise.task_group() as group:
        for part in parts:
            group.create_task(part)
