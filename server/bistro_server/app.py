"""Puts the server together: opens what it needs, binds sockets, runs the parts.

Source: docs/architecture.md, processes.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Self

from aiohttp import web
from prometheus_client import CollectorRegistry
from yarl import URL

from bistro import clock as clocks
from bistro.clock import Clock
from bistro.crypto.timestamp.certificate import validity
from bistro.crypto.timestamp.der import encode_object
from bistro.crypto.timestamp.token import PREFIX_SIZE
from bistro.daemon import logs, metrics, supervise
from bistro.daemon.buckets import Rate
from bistro.daemon.listening import HttpPart, bind_tcp, bind_unix
from bistro.daemon.peers import Peers
from bistro.daemon.quick import Heads
from bistro.daemon.renewal import Renewal
from bistro.daemon.web import ReadinessCheck, new_app, side_app
from bistro.net.session import Session, Timeouts
from bistro.net.timestamp_client import TimestampClient
from bistro.storage.durable import Disk
from bistro.storage.locks import FileLock
from bistro_server.http import endpoints
from bistro_server.http.desks import DESKS, Desks
from bistro_server.metrics import ServerMetrics
from bistro_server.services.anchoring import Anchoring
from bistro_server.services.authority import AuthorityFiles
from bistro_server.services.calls import Call, CallRegistry
from bistro_server.services.creating import load_terms_key
from bistro_server.services.folder import ServerFolder
from bistro_server.services.ledgers import CallLedgers
from bistro_server.services.notary import Notary, load_notary_certificates
from bistro_server.services.observing import Observed, Room, TimedDisk, batch_reporter
from bistro_server.services.publishing import NoticeBoard
from bistro_server.services.registration import Registration
from bistro_server.services.serving import CallsInService
from bistro_server.services.staging import ReceiptDesk
from bistro_server.services.statuses import StatusDesk
from bistro_server.services.tickets import TicketDesk
from bistro_server.services.timekeeping import require_trusted_clock
from bistro_server.services.timestamps import TimestampDesk
from bistro_server.settings import AnchorSettings, ServerSettings
from bistro_server.store.schema import open_database
from bistro_server.store.status_files import StatusFiles
from bistro_server.store.submissions import Submissions

_log = logs.get_logger("app")


@dataclass(frozen=True)
class Server:
    """A server with everything open and bound; obtained from ``open``, ended by ``close``.

    Attributes:
        http: The public part.
        tickets: The part that takes ticket requests over plain HTTP, if there is one.
        control: The part on the Unix socket.
        calls: The part that stamps, closes and publishes.
        registration: The part that verifies and keeps admissions of registered filers.
        anchoring: The part that has checkpoints stamped by another authority.
        renewal: The part that takes up a renewed certificate for time stamps, if there is one.
        part_metrics: Counts restarts of parts.
    """

    http: HttpPart
    tickets: HttpPart | None
    control: HttpPart
    calls: CallsInService
    registration: Registration
    anchoring: Anchoring
    renewal: supervise.Part | None
    part_metrics: metrics.PartMetrics
    resources: AsyncExitStack

    @classmethod
    async def open(
        cls,
        folder: ServerFolder,
        settings: ServerSettings,
        clock: Clock,
        *,
        disk: Disk | None = None,
    ) -> Self:
        """Open ledgers and database and bind all sockets; nothing is answered yet.

        Args:
            folder: Made by ``init``.
            settings: Those of the folder.
            clock: Stamps.
            disk: The system calls with which ledgers are written; ``None``: this machine's.

        Raises:
            SettingsError: Something that settings name is missing, or a port is taken.
            UnavailableError: Another ``serve`` runs here, or the clock may not stamp.
            StorageError: A ledger or the database is damaged, the disk failed, or a ledger ends
                later than this clock.
        """
        async with AsyncExitStack() as stack:
            lock = FileLock.take(folder.serve_lock, what=f"the server in {folder.root}")
            stack.callback(lock.release)
            return await cls._open(stack, folder, settings, clock, disk)

    @classmethod
    async def _open(
        cls,
        stack: AsyncExitStack,
        folder: ServerFolder,
        settings: ServerSettings,
        clock: Clock,
        disk: Disk | None,
    ) -> Self:
        limit_ms = settings.clock.error_limit_ms
        terms_key = load_terms_key(folder, name=settings.name).verifier
        require_trusted_clock(clock, error_limit_ms=limit_ms)
        database = await open_database(folder.database)
        stack.push_async_callback(database.close)
        statuses = StatusFiles(folder.status)
        submissions = Submissions(database, statuses, clock)
        registry = metrics.new_registry()
        measures = ServerMetrics.register(registry)
        disk = disk or TimedDisk(measures.syncs.observe)
        registration = Registration(
            database,
            clock,
            filer_rate=Rate(settings.tickets.filer_rate_per_s, settings.tickets.filer_burst_count),
            poll_s=settings.calls.poll_ms / 1_000,
            report=lambda code: measures.unjudged.labels(code).inc(),
            disk=disk,
        )
        stack.callback(registration.close)

        async def open_call(call: Call) -> CallLedgers:
            ledgers = await CallLedgers.open(
                call,
                clock,
                error_limit_ms=limit_ms,
                report=batch_reporter(measures),
                disk=disk,
            )
            try:
                await registration.attend(ledgers)
            except BaseException:
                await ledgers.close()
                raise
            return ledgers

        calls = CallsInService(
            CallRegistry(folder),
            submissions,
            clock,
            open_call,
            error_limit_ms=limit_ms,
            poll_s=settings.calls.poll_ms / 1_000,
            report=lambda code: measures.interruptions.labels(code).inc(),
        )
        stack.push_async_callback(calls.close)
        await calls.open_new()
        chooser = secrets.SystemRandom()
        tickets_rate = Rate(
            settings.tickets.address_rate_per_s, settings.tickets.address_burst_count
        )
        peers = Peers(settings.tickets.trusted_proxies, tickets_rate, report=measures.limited.inc)
        timestamps, renewal = _timestamp_desk(folder, settings, clock, measures)
        plain = _bind_plain(settings)
        desks = Desks(
            peers,
            calls,
            NoticeBoard(
                terms_key,
                settings.http.base_url,
                calls,
                clock,
                tickets_url=None if plain is None else _plain_url(settings, plain),
            ),
            TicketDesk(
                clock,
                chooser,
                address_limit=settings.tickets.address_count,
                registration=registration,
                peers=peers,
            ),
            ReceiptDesk(submissions, clock),
            StatusDesk(statuses),
            timestamps,
            await _anchoring(stack, settings, calls, clock, measures, disk),
        )
        room = Room(folder.root, settings.disk.min_free_bytes)
        ready = _readiness(calls, room)
        app = new_app(
            endpoints.PUBLIC,
            registry=registry,
            is_ready=ready,
            request_timeout_s=settings.http.request_timeout_s,
            unfinished_limit=settings.http.unfinished_bytes,
        )
        control = new_app(endpoints.CONTROL, registry=CollectorRegistry(), is_ready=ready)
        tickets = side_app(app, endpoints.TICKETS)
        app[DESKS] = control[DESKS] = tickets[DESKS] = desks
        quick = endpoints.quick(desks, clock)
        http = HttpPart.bind(
            app, settings.http, inner=folder.inner_socket, quick=quick, peers=peers
        )
        ends = {} if renewal is None else {"tsa": lambda: timestamps.valid_until}
        if (identity := http.identity) is not None:
            ends["tls"] = lambda: validity(identity.certificate)[1]
        Observed(calls, desks.notices, desks.tickets, clock, limit_ms, room, ends).attach(measures)
        plain_quick = endpoints.quick_plain(desks, clock)
        return cls(
            http=http,
            tickets=None if plain is None else _plain_part(http, tickets, plain, plain_quick),
            control=HttpPart(control, bind_unix(folder.control_socket)),
            calls=calls,
            registration=registration,
            anchoring=desks.anchoring,
            renewal=renewal,
            part_metrics=metrics.PartMetrics.register(registry),
            resources=stack.pop_all(),
        )

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Serve until a signal or ``stop``.

        Raises:
            StorageError: A disk failed or the clock was set; a restart recovers.
        """
        # Stopped last-first: requests that are under way are still stamped and answered.
        parts: dict[str, supervise.Part] = {
            "anchoring": self.anchoring.run,
            "calls": self.calls.run,
            "registration": self.registration.run,
            "control": self.control.run,
        }
        if self.renewal is not None:
            parts["renewal"] = self.renewal
        parts |= {name: worker.run for name, worker in self.http.workers.items()}
        parts["http"] = self.http.run  # when it has ended, connections of workers have too
        if self.tickets is not None:
            parts["tickets"] = self.tickets.run
        await supervise.run(parts, stop=stop, on_restart=self.part_metrics.count_restart)

    async def close(self) -> None:
        """Give back ledgers, database and lock."""
        await self.resources.aclose()


def _bind_plain(settings: ServerSettings) -> socket.socket | None:
    port = settings.tickets.plain_port
    if port is None:
        return None
    return bind_tcp(host=settings.http.host, port=port, backlog=settings.http.backlog_count)


def _plain_part(
    http: HttpPart, app: web.Application, listener: socket.socket, quick: Heads
) -> HttpPart:
    return replace(
        http, app=app, listener=listener, identity=None, relayed=None, workers={}, quick=quick
    )


def _plain_url(settings: ServerSettings, listener: socket.socket) -> str:
    """As others reach the plain port: under the host of our address."""
    port = int(listener.getsockname()[1])
    return str(URL(settings.http.base_url).origin().with_scheme("http").with_port(port))


def _timestamp_desk(
    folder: ServerFolder, settings: ServerSettings, clock: Clock, measures: ServerMetrics
) -> tuple[TimestampDesk, supervise.Part | None]:
    """The desk, and what keeps its key and certificate up to date; ``None`` where it has none."""
    named = settings.timestamps
    files = AuthorityFiles.of(folder, named.key_path, named.certificate_path)
    # Before they are read, so that no change is missed.
    renewal = Renewal(files.paths, files.require)
    authority = files.load()
    # A counter is looked up once for each result, not for each token.
    counter = cache(measures.timestamps.labels)
    desk = TimestampDesk(
        authority,
        clock,
        policy=named.policy,
        error_limit_ms=settings.clock.error_limit_ms,
        randomness=secrets.token_bytes(PREFIX_SIZE),
        report=lambda result: counter(result).inc(),
    )
    return desk, None if authority is None else partial(renewal.run, desk.take_over)


async def _anchoring(
    stack: AsyncExitStack,
    settings: ServerSettings,
    calls: CallsInService,
    clock: Clock,
    measures: ServerMetrics,
    disk: Disk,
) -> Anchoring:
    anchoring = Anchoring(
        calls,
        await open_notary(stack, settings.anchoring, clock),
        clock,
        interval_ms=settings.anchoring.interval_s * 1_000,
        poll_s=settings.calls.poll_ms / 1_000,
        chooser=secrets.SystemRandom(),
        report=lambda result: measures.anchors.labels(result).inc(),
        disk=disk,
    )
    measures.anchor_waiting.set_function(lambda: anchoring.waiting_ms() / 1_000)
    return anchoring


async def open_notary(stack: AsyncExitStack, wanted: AnchorSettings, clock: Clock) -> Notary | None:
    """Whom the settings name to stamp checkpoints, for as long as ``stack`` is open.

    Raises:
        SettingsError: The file of its certificate is missing or holds none.
    """
    if wanted.url is None or wanted.certificate_path is None:
        return None
    trusted = load_notary_certificates(wanted.certificate_path)
    # What an authority answers is signed: it may well be plain HTTP.
    session = Session(allow_http=True, timeouts=Timeouts(total_s=wanted.timeout_s))
    await stack.enter_async_context(session)
    return Notary(
        asker=TimestampClient(session, wanted.url),
        trusted=trusted,
        policy=None if wanted.policy is None else encode_object(wanted.policy),
        clock=clock,
        random_bytes=secrets.token_bytes,
    )


def _readiness(calls: CallsInService, room: Room) -> ReadinessCheck:
    async def check() -> None:
        calls.require_ready()
        await asyncio.to_thread(room.require)

    return check


async def serve(
    folder: ServerFolder,
    settings: ServerSettings,
    clock: Clock,
    *,
    stop: asyncio.Event | None = None,
) -> None:
    """Run a server until it is stopped.

    Raises:
        BistroError: As ``Server.open`` and ``Server.run``.
    """
    server = await Server.open(folder, settings, clock)
    try:
        if isinstance(clock, clocks.SystemClock) and clocks.kernel_error_bound_ms() is None:
            _log.warning("clock_error_assumed", bound_ms=clock.error_bound_ms())
        _log.info("server_started", name=settings.name, url=settings.http.base_url)
        await server.run(stop)
    finally:
        await server.close()
