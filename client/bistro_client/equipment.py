"""What the client works with: home, network, clock, listener; and how it reaches a destination."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bistro.api import routes
from bistro.clock import Clock
from bistro.crypto.signing import VerifierKey
from bistro.errors import SettingsError, UnavailableError
from bistro.ids import Origin
from bistro.net.memory import Memory
from bistro.net.session import Session
from bistro.protocol.submission import Submission
from bistro.storage.durable import Disk
from bistro.wire.served_terms import ServedTerms
from bistro_client import keyring, notices
from bistro_client.contact import Destination, Reception, Versions
from bistro_client.evidence_file import recall_terms
from bistro_client.home import Home
from bistro_client.keyring import FilerKey
from bistro_client.known_servers import KnownServers
from bistro_client.listening import Listener
from bistro_client.oversight import Limits
from bistro_client.pacing import Pace
from bistro_client.patience import Patience, Wait

FIRST_CONTACT_MS: Final = 4_000
"""How long to try a server that never answered: its address is more likely wrong than it down."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A destination that was reached, with the verified terms of one call."""

    destination: Destination
    versions: Versions


@dataclass(frozen=True, slots=True)
class Equipment:
    """Everything a step needs that is not the submission itself; attributes as ``Submitter``."""

    home: Home
    session: Session
    clock: Clock
    listener: Listener
    patience: Patience
    unlock: Callable[[Path], FilerKey]
    disk: Disk
    limits: Limits
    pace: Pace
    memory: Memory = field(default_factory=Memory)
    met: dict[tuple[str, VerifierKey], Destination] = field(default_factory=dict)
    """Destinations that were reached; good again while what they said is fresh."""

    def key(self, path: Path, *, may_create: bool) -> FilerKey:
        """The filer's key; made now if there is none and one may be made."""
        if may_create and not path.exists():
            with suppress(SettingsError):  # another program made it meanwhile: it is ours, too
                key = keyring.create(path, disk=self.disk)
                self.listener.tell(notices.key_made(path))
                return key
        return self.unlock(path)

    async def reach(self, url: str, *, given: VerifierKey | None) -> Destination:
        """The destination at ``url``, tried for a few seconds; see ``Reception.reach``."""
        known = KnownServers(self.home.known_servers, disk=self.disk)
        reception = Reception(self.session, known, self.clock, self.listener, self.memory)
        return await self._briefly().ask(lambda: reception.reach(url, given=given))

    async def fetch_terms(
        self, destination: Destination, origin: Origin, known: Sequence[ServedTerms] = ()
    ) -> Visit:
        """A destination with the terms of a call, tried for a few seconds; those ``known`` stay."""
        versions = await self._briefly().ask(lambda: destination.fetch_versions(origin, known))
        return Visit(destination, versions)

    def _briefly(self) -> Wait:
        limit_ms = self.patience.limit_ms
        least_ms = FIRST_CONTACT_MS if limit_ms is None else min(limit_ms, FIRST_CONTACT_MS)
        return replace(self.patience, limit_ms=least_ms).begin()

    async def visit(self, submission: Submission) -> Visit:
        """The destination of a submission, waited for as long as patience lasts.

        Of several submissions that are looked at in a row, the first asks who it is, for all.
        """
        request = submission.request
        known = await asyncio.to_thread(recall_terms, self.home.folder(submission.id))

        async def attempt() -> Visit:
            destination = await self._meet(request.server_url, VerifierKey.parse(request.terms_key))
            return await self.fetch_terms(destination, request.origin, known)

        return await self.patience.begin().ask(attempt)

    async def _meet(self, url: str, trusted: VerifierKey) -> Destination:
        met = self.met.get((url, trusted))
        if met is None or self.memory.fresh(routes.DISCOVERY.url(url)) is None:
            met = self.met[url, trusted] = await self.reach(url, given=trusted)
        return met

    async def visit_if_up(self, submission: Submission) -> Visit | None:
        """As ``visit``, without waiting: None if it cannot be reached now."""
        impatient = replace(self, patience=replace(self.patience, limit_ms=0))
        try:
            return await impatient.visit(submission)
        except UnavailableError as exc:
            self.listener.tell(notices.going_on_without_destination(exc))
            return None
