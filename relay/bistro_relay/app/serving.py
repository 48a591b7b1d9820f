"""Opens a relay and runs its parts.

Parts, in the order in which they depend on each other: ``ledgers`` order promises, ``orders``
hear what the operator wants, ``terms`` polls destinations, ``keeper`` recovers and then keeps
promises, ``shelf`` tends segments, ``sisters`` are asked, ``takedowns`` carried out, ``whole``
keeps small fragments, ``crawls`` those that come slowly, ``control`` and ``http`` answer once
recovery is done, and the ``manager`` of services hears of it. Sockets are bound before anything
runs.

Source: docs/architecture.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from bistro.crypto.keyfile import decode_note_key
from bistro.crypto.signing import SigningKey
from bistro.daemon.activation import report
from bistro.daemon.listening import HttpPart, bind_unix
from bistro.daemon.supervise import Part
from bistro.daemon.web import new_app
from bistro.errors import FormatError, SettingsError, StorageError
from bistro.net.session import Session
from bistro.storage.durable import make_directories, read_file
from bistro.storage.locks import FileLock
from bistro_relay.app.composition import Services, Surroundings
from bistro_relay.http.collecting import CollectingApi
from bistro_relay.http.description import description_endpoint
from bistro_relay.http.draft import DraftApi
from bistro_relay.http.feeding import Feeder
from bistro_relay.http.hinting import Hinting
from bistro_relay.http.listening import RelayHttpPart
from bistro_relay.http.public import PublicApi, control_endpoint
from bistro_relay.http.service import ServiceApi
from bistro_relay.http.tus import TusApi, add_upload_fields
from bistro_relay.http.upload_front import UploadFront
from bistro_relay.services.room import Gate
from bistro_relay.settings import Settings
from bistro_relay.store.accounts import AccountStore
from bistro_relay.store.placing import PlacedUploads
from bistro_relay.store.schema import open_database
from bistro_relay.store.terms import NonceStore, TermsStore
from bistro_relay.store.uploads import UploadStore

LOCK_FILE: Final = "relay.lock"
CONTROL_SOCKET: Final = "control.sock"
INNER_SOCKET: Final = "inner.sock"
"""Unix socket between a running ``serve`` and its workers, mode 0600."""

_MAX_KEY_FILE_SIZE: Final = 4_096


def load_key(settings: Settings) -> SigningKey:
    """The relay's key.

    Raises:
        SettingsError: There is none, it is not one, or it is another relay's.
    """
    path = settings.relay.key_path
    try:
        data = read_file(path, max_size=_MAX_KEY_FILE_SIZE)
        if data is None:
            raise SettingsError(f"key {path} does not exist", hint="restore it from its backup")
        key = decode_note_key(data)
    except (FormatError, StorageError) as exc:
        raise SettingsError(
            f"key {path}: {exc.message}", hint="restore it from its backup"
        ) from exc
    if key.verifier.name != settings.relay.name:
        raise SettingsError(
            f"key {path}: expected the key of {settings.relay.name}, "
            f"found that of {key.verifier.name}",
            hint="a relay that changes its name needs a new folder",
        )
    return key


def control_socket(settings: Settings) -> Path:
    """Where ``serve`` answers its operator."""
    return settings.relay.data_path / CONTROL_SOCKET


@asynccontextmanager
async def open_services(settings: Settings, around: Surroundings) -> AsyncIterator[Services]:
    """The relay that ``settings`` describe, until the block ends; nothing runs yet.

    Raises:
        UnavailableError: Another process serves from this folder.
        SettingsError: The key is not there.
        StorageError: Database or disk failed.
    """
    key = load_key(settings)
    directory = settings.relay.data_path
    make_directories(directory, disk=around.disk)
    lock = FileLock.take(directory / LOCK_FILE, what=f"relay folder {directory}")
    try:
        database = await open_database(directory)
        try:
            allow_http, ca_path = settings.terms.allow_http, settings.terms.ca_path
            async with Session(allow_http=allow_http, ca_path=ca_path) as session:
                services = Services(
                    settings,
                    around,
                    key,
                    uploads=UploadStore(database),
                    placed=PlacedUploads(database),
                    accounts=AccountStore(database),
                    terms=TermsStore(database),
                    nonces=NonceStore(database),
                    session=session,
                )
                await services.book.load()
                await services.accounts.load()
                # The last first, and each whatever the others meet.
                async with AsyncExitStack() as closing:
                    closing.push_async_callback(services.tending.close)
                    closing.push_async_callback(services.ledgers.close)
                    closing.push_async_callback(services.accounts.save)
                    yield services
        finally:
            await database.close()
    finally:
        lock.release()


@dataclass(frozen=True)
class Relay:
    """A relay with its sockets bound.

    Attributes:
        parts: What ``supervise.run`` runs.
        http: The part that faces the world.
        services: What it is made of.
    """

    parts: Mapping[str, Part]
    http: HttpPart
    services: Services

    @classmethod
    def bind(cls, services: Services) -> Relay:
        """Listen where the settings say, and on the control socket.

        Raises:
            SettingsError: An address is taken or not ours.
        """
        inner = services.settings.relay.data_path / INNER_SOCKET
        http = RelayHttpPart.bind(_new_app(services), services.settings.http, inner=inner)
        assert isinstance(http, RelayHttpPart)  # noqa: S101 - what it was bound as
        http = replace(http, uploads=_new_front(services))
        control = _new_control(services)
        recovered = services.keeper.recovered
        return cls(
            {
                "ledgers": services.ledgers.run,
                "orders": services.orders.run,
                "terms": services.book.run,
                "keeper": services.keeper.run,
                "shelf": partial(_when, recovered, services.tending.run),
                "sisters": services.sisters.run,
                "takedowns": partial(_when, recovered, services.takedowns.run),
                "whole": services.whole.run,
                "crawls": services.crawls.run,
                "control": partial(_after, recovered, control),
                # Stopped behind ``http``, which ends the connections that they pass on.
                **{name: worker.run for name, worker in http.workers.items()},
                "http": partial(_after, recovered, http),
                "manager": partial(report, recovered, asyncio.sleep),
            },
            http,
            services,
        )


def _new_app(services: Services) -> web.Application:
    settings = services.settings
    limits = settings.limits
    collectors = Gate(limits.collectors_count, per_address=limits.collectors_count)
    base_url = settings.http.base_url
    feeder = Feeder(services.intake, limits.idle_s)
    draft = None
    if settings.protocols.resumable_upload_draft:
        draft = DraftApi(feeder, base_url=base_url)
    tus = TusApi(feeder, services.gate, base_url=base_url, draft=draft)
    app = new_app(
        [
            *tus.endpoints(),
            *CollectingApi(
                services.desk, services.handing, collectors, idle_s=limits.idle_s
            ).endpoints(),
            *PublicApi(services.overview, services.book).endpoints(),
            description_endpoint(name=settings.relay.name, base_url=base_url),
            *_new_service_api(services).endpoints(),
        ],
        registry=services.registry,
        is_ready=services.overview.require_ready,
        request_timeout_s=settings.http.request_timeout_s,
        unfinished_limit=settings.http.unfinished_bytes,
    )

    async def wake_waiting(_: web.Application) -> None:
        services.arrivals.close()

    app.on_response_prepare.append(add_upload_fields)
    app.on_response_prepare.append(Hinting(services.sisters).add)
    app.on_shutdown.append(wake_waiting)
    return app


def _new_service_api(services: Services) -> ServiceApi:
    return ServiceApi(services.statements, services.takedowns, services.records)


def _new_front(services: Services) -> UploadFront:
    http = services.settings.http
    return UploadFront(
        services.claims,
        services.whole,
        services.crawls,
        services.gate,
        base_url=http.base_url,
        idle_s=http.idle_timeout_s,
    )


def _new_control(services: Services) -> HttpPart:
    app = new_app(
        [
            control_endpoint(partial(services.overview.status, is_serving=True)),
            *_new_service_api(services).endpoints(),
        ],
        registry=CollectorRegistry(),
        is_ready=services.overview.require_ready,
    )
    return HttpPart(app, bind_unix(control_socket(services.settings)))


async def _when(event: asyncio.Event, run: Callable[[], Awaitable[None]]) -> None:
    await event.wait()
    await run()


async def _after(event: asyncio.Event, part: HttpPart) -> None:
    """Run a part once ``event`` is set; until then connections wait in the kernel."""
    try:
        await event.wait()
        await part.run()
    finally:
        # Also where it never ran: whoever waits must not wait for a relay that has stopped.
        for listener in filter(None, (part.listener, part.relayed)):
            listener.close()
