"""The terms this relay knows: fetched from allowed destinations, verified, kept, served.

All destinations are polled; an upload that names a call nobody knows here leads to one fetch,
shared by all who wait and limited in rate. A newly allowed destination is seen within a second.

Source: docs/spec/terms.md; docs/spec/staging.md, creation.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from bistro.clock import Clock
from bistro.crypto.signing import VerifierKey
from bistro.daemon import logs
from bistro.errors import (
    BistroError,
    FormatError,
    NotRegisteredError,
    UnavailableError,
    UnknownObjectError,
    VerificationError,
)
from bistro.ids import Origin
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.protocol.succession import verify_successor
from bistro.wire.served_terms import ServedTerms
from bistro.wire.terms import Terms
from bistro_relay.services.room import full_answered
from bistro_relay.services.trust import follow_rotations
from bistro_relay.store.destinations import Destination, DestinationFiles
from bistro_relay.store.terms import TermsStore

LOOK_S: Final = 0.5
"""How often the folder of allowed destinations is looked at."""

_MAX_STEPS: Final = 1_000
_MS_PER_S: Final = 1_000

_log = logs.get_logger("terms")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often destinations are asked.

    Attributes:
        poll_s: Seconds between two polls of one.
        refresh_s: Least seconds between two fetches that uploads ask for.
    """

    poll_s: float
    refresh_s: float


@dataclass
class _Fetches:
    """What is fetched from one destination: one at a time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: int = 0
    done: int = 0
    ended_ms: int | None = None
    failure: BistroError | None = None


class TermsBook:
    """The latest verified terms of every call of the allowed destinations.

    Args:
        files: Allowed destinations.
        store: Verified versions.
        session: An open session.
        clock: Spaces fetches.
        pace: How often to ask.
        count: Told how each fetch ended: an error code, or ``ok``.
    """

    def __init__(
        self,
        files: DestinationFiles,
        store: TermsStore,
        session: Session,
        clock: Clock,
        *,
        pace: Pace,
        count: Callable[[str], None],
    ) -> None:
        self._files = files
        self._store = store
        self._session = session
        self._clock = clock
        self._poll_ms = round(pace.poll_s * _MS_PER_S)
        self._refresh_ms = round(pace.refresh_s * _MS_PER_S)
        self._count = count
        self._stamp: object = None
        self._destinations: dict[str, Destination] = {}
        self._latest: dict[Origin, ServedTerms] = {}
        self._fetches: defaultdict[str, _Fetches] = defaultdict(_Fetches)

    async def load(self) -> None:
        """Read what is kept: nothing is asked for, so a relay starts while others are down."""
        self._look()
        for served in await self._store.load_latest():
            self._latest[served.signed.origin] = served

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """All allowed destinations, by name."""
        return tuple(self._destinations[name] for name in sorted(self._destinations))

    def calls(self, server: str) -> tuple[Origin, ...]:
        """The calls of a destination whose terms are known."""
        return tuple(sorted(origin for origin in self._latest if origin.server == server))

    def require_destination(self, server: str) -> Destination:
        """The destination of that name.

        Raises:
            NotRegisteredError: It is not allowed here.
        """
        if server not in self._destinations:
            self._look()
        found = self._destinations.get(server)
        if found is None:
            raise NotRegisteredError(
                f"destination {server} is not served by this relay",
                hint="use a relay that the call's terms name",
            )
        return found

    def find(self, origin: Origin) -> ServedTerms | None:
        """The latest terms known of a call of a destination that is still allowed."""
        return self._latest.get(origin) if origin.server in self._destinations else None

    def find_terms(self, origin: Origin) -> Terms:
        """The latest terms known of a call, also of one that is no longer allowed.

        Raises:
            UnknownObjectError: None are known.
        """
        served = self._latest.get(origin)
        if served is None:
            raise UnknownObjectError(f"call {origin}: its terms are not known here")
        return served.signed.terms

    async def require(self, origin: Origin) -> Terms:
        """The latest terms of a call, after one fetch if they are not known.

        Raises:
            NotRegisteredError: The destination is not allowed here.
            UnknownObjectError: It has no such call.
            UnavailableError: It cannot be asked now.
        """
        destination = self.require_destination(origin.server)
        if self.find(origin) is None:
            await self._refresh(destination)
        return self.find_terms(origin)

    def keys_of(self, key_id: str) -> list[VerifierKey]:
        """The collect keys with a key id, of all calls of allowed destinations."""
        keys = (
            served.signed.terms.keys.collect
            for origin, served in self._latest.items()
            if origin.server in self._destinations
        )
        return [key for key in keys if key.key_id.hex() == key_id]

    async def run(self) -> NoReturn:
        """Poll all destinations, and look for newly allowed ones."""
        while True:
            self._look()
            async with asyncio.TaskGroup() as group:
                for destination in self.destinations:
                    if self._is_due(destination):
                        group.create_task(self._poll(destination))
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return
        found = self._files.load_all()
        for server, destination in found.items():
            if destination != self._destinations.get(server):
                _log.info("destination_allowed", destination=server)
                self._fetches[server].ended_ms = None
        self._destinations, self._stamp = found, stamp

    def _is_due(self, destination: Destination) -> bool:
        ended_ms = self._fetches[destination.server].ended_ms
        return ended_ms is None or self._clock.monotonic_ms() - ended_ms >= self._poll_ms

    async def _poll(self, destination: Destination) -> None:
        fetches = self._fetches[destination.server]
        async with fetches.lock:
            await self._fetch(destination, fetches)

    async def _refresh(self, destination: Destination) -> None:
        """Fetch now, unless a fetch that began after we asked has ended meanwhile."""
        fetches = self._fetches[destination.server]
        begun = fetches.begun
        async with fetches.lock:
            if fetches.done <= begun:
                if fetches.ended_ms is not None:
                    since_ms = self._clock.monotonic_ms() - fetches.ended_ms
                    await asyncio.sleep(max(0, self._refresh_ms - since_ms) / _MS_PER_S)
                await self._fetch(destination, fetches)
            failure = fetches.failure
        if failure is not None:
            raise UnavailableError(
                f"terms of {destination.server} cannot be fetched now: {failure.message}",
                hint="try again later, or use another relay",
                retry_after_s=self._refresh_ms / _MS_PER_S,
            ) from failure

    async def _fetch(self, destination: Destination, fetches: _Fetches) -> None:
        fetches.begun += 1
        mine = fetches.begun
        fetches.failure = None
        try:
            await self._ask(destination)
        except (FormatError, VerificationError, UnavailableError, UnknownObjectError) as exc:
            fetches.failure = exc
            _log.warning(
                "terms_fetch_failed",
                destination=destination.server,
                error_code=exc.code,
                message=exc.message,
            )
        finally:
            fetches.done = mine
            fetches.ended_ms = self._clock.monotonic_ms()
        self._count("ok" if fetches.failure is None else fetches.failure.code)

    async def _ask(self, destination: Destination) -> None:
        discovery = await ServerClient(self._session, destination.url).fetch_discovery()
        key = follow_rotations(destination.key, discovery)
        client = ServerClient(self._session, discovery.base_url)
        for call in discovery.calls:
            origin = Origin(destination.server, call.id)
            known = self._latest.get(origin)
            if known is not None and known.signed.hash == call.terms:
                continue
            try:
                await self._learn(client, origin, key)
            except (FormatError, VerificationError) as exc:
                # One call with bad terms does not keep the others from being served.
                _log.warning(
                    "terms_refused", origin=str(origin), error_code=exc.code, message=exc.message
                )

    async def _learn(self, client: ServerClient, origin: Origin, key: VerifierKey) -> None:
        """Verify and keep the latest terms of a call, and all versions since the known one."""
        chain = [await client.fetch_terms(origin.call)]
        known = self._latest.get(origin)
        if known is not None and known.signed.hash == chain[0].signed.hash:
            return
        if known is not None:
            while chain[-1].signed.terms.version > known.signed.terms.version + 1:
                before = chain[-1].signed.terms.supersedes
                if before is None or len(chain) > _MAX_STEPS:
                    raise VerificationError(f"terms of {origin}: no chain leads to version 1")
                chain.append(await client.fetch_terms_version(origin.call, before))
        for served in reversed(chain):
            _verify(served, origin, key if known is None else known.signed.terms.keys.terms)
            if known is not None:
                verify_successor(known.signed.terms, served.signed.terms)
            # A crash before this returns: the version is fetched again.
            with full_answered():
                await self._store.save(served)
            self._latest[origin] = known = served
            terms = served.signed.terms
            _log.info(
                "terms_learned",
                origin=str(origin),
                terms_hash=terms.hash.hex(),
                count=terms.version,
            )


def _verify(served: ServedTerms, origin: Origin, key: VerifierKey) -> None:
    if served.signed.origin != origin:
        raise VerificationError(f"terms: expected those of {origin}, found others")
    served.signed.verify(key)
    served.entry.verify(served.signed.terms.keys.log, origin, served.signed.hash)
