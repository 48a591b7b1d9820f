"""A worker: a process that ends TLS and passes on what is inside to the daemon.

TLS handshakes cost many times what a ticket costs, and they need nothing that the daemon has.
So any number of processes may take connections from one listening socket; each keeps no state
but its open connections. A worker that dies takes only those along: what they asked for was
promised, or not, by the daemon, and clients ask again. It ends by itself when the daemon does,
whose end closes the pipe that is its standard input.

Source: docs/spec/api.md, workers; docs/decisions/0022-workers-end-tls.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self, cast

from bistro.daemon import supervise
from bistro.daemon.preface import encode_preface
from bistro.daemon.renewal import POLL_S
from bistro.daemon.tls import ServerTls
from bistro.errors import SettingsError

_HANDSHAKE_S: Final = 10.0
_SHUTDOWN_S: Final = 5.0


@dataclass(frozen=True)
class WorkerTask:
    """What a worker is told by who starts it.

    Attributes:
        listener: File descriptor of the listening socket.
        daemon: Path of the daemon's Unix socket.
        certificate: Path of the PEM file with the certificate chain.
        key: Path of the PEM file with the private key.
        connections_count: Open connections at most; more are closed at once.
        grace_s: How long connections may stay open after the daemon's end.
    """

    listener: int
    daemon: str
    certificate: str
    key: str
    connections_count: int
    grace_s: float

    def encode(self) -> str:
        """JSON, for the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        """What ``encode`` made."""
        return cls(**json.loads(text))


class _End(asyncio.Protocol):
    """One end of a connection that is passed on; what is read here is written there."""

    transport: asyncio.Transport
    other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    # A reader that is slow slows down who writes to it: 64 KiB wait here, no more.
    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.other is not None:
            self.other.transport.close()  # what was written is still sent


class _Client(_End):
    """A client's end: finds the daemon first."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._worker.enter(self):
            self.transport.abort()
            return
        self.transport.pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        places = [self.transport.get_extra_info(name) for name in ("peername", "sockname")]
        try:
            _, daemon = await loop.create_unix_connection(_End, self._worker.task.daemon)
        except OSError:  # the daemon stops, or has more to do than it can
            self.transport.abort()
            return
        daemon.transport.write(encode_preface(places[0][:2], places[1][:2]))
        self.other, daemon.other = daemon, self
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.leave(self)
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
        super().connection_lost(exc)


class _Worker:
    """All connections of this process."""

    def __init__(self, task: WorkerTask) -> None:
        self.task = task
        self._clients: set[_Client] = set()
        self._is_empty = asyncio.Event()

    def enter(self, client: _Client) -> bool:
        """Whether there is room for one more."""
        has_room = len(self._clients) < self.task.connections_count
        if has_room:
            self._clients.add(client)
        return has_room

    def leave(self, client: _Client) -> None:
        """It was closed."""
        self._clients.discard(client)
        if not self._clients:
            self._is_empty.set()

    async def run(self) -> None:
        """Pass on until the daemon has ended or a signal comes, then for the grace at most."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        await loop.connect_read_pipe(lambda: _Watch(ended), sys.stdin)
        tls = ServerTls(Path(self.task.certificate), Path(self.task.key))
        server = await loop.create_server(
            lambda: _Client(self),
            sock=socket.socket(fileno=self.task.listener),
            ssl=tls.context,
            ssl_handshake_timeout=_HANDSHAKE_S,
            ssl_shutdown_timeout=_SHUTDOWN_S,
        )
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await ended.wait()
            # What is wrong with the files the daemon says, which looks at them as well.
            with contextlib.suppress(SettingsError):
                await tls.renew()
        server.close()
        if not self._clients:
            return
        self._is_empty.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.task.grace_s):
                await self._is_empty.wait()
        for client in list(self._clients):
            client.transport.abort()


class _Watch(asyncio.Protocol):
    """Watches the pipe from the daemon, on which nothing is ever written."""

    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._ended.set()


def main(arguments: Sequence[str]) -> None:
    """Be a worker until the daemon has ended."""
    supervise.run_loop(_Worker(WorkerTask.decode(arguments[0])).run())


if __name__ == "__main__":
    main(sys.argv[1:])
