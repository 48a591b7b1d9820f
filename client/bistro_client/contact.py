"""First contact with a destination, and every later one: who is it, and what are its terms.

Nothing that a server says is believed before the terms verify with the key that is pinned,
given, or shown to the filer here for the first time.

Source: docs/spec/terms.md, trust and discovery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bistro.api import routes
from bistro.clock import Clock
from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError, UnknownObjectError, VerificationError
from bistro.ids import Origin
from bistro.net.memory import Memory
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.protocol.deadline import is_on_time, terms_in_force
from bistro.protocol.succession import verify_successor
from bistro.wire.discovery import MAX_DISCOVERY_SIZE, PROTOCOL, ServerDiscovery
from bistro.wire.evidence import MAX_TERMS
from bistro.wire.served_terms import ServedTerms
from bistro.wire.terms import Terms
from bistro.wire.ticket import Ticket
from bistro_client import notices, peer_messages
from bistro_client.known_servers import KnownServers, Pin, require_same_server, require_trusted
from bistro_client.listening import Listener
from bistro_client.times import ServerTime
from bistro_client.wording import say


@dataclass(frozen=True, slots=True)
class Versions:
    """All versions of a call's terms, oldest first, each verified."""

    served: tuple[ServedTerms, ...]

    @property
    def latest(self) -> ServedTerms:
        """The last version."""
        return self.served[-1]

    @property
    def terms(self) -> Terms:
        """The terms of the last version."""
        return self.latest.signed.terms

    def require_on_time(self, ticket: Ticket) -> None:
        """Check that a verified ticket is on time by the terms in force at its entry.

        Raises:
            VerificationError: It is late, or stands before all terms: it proves nothing.
        """
        entries = [(one.entry.index, one.signed.terms) for one in self.served]
        if ticket.index <= entries[0][0]:
            raise VerificationError(say("contact.ticket-expected-an", entries=entries[0][0]))
        terms = terms_in_force(ticket.index, entries)
        if not is_on_time(ticket.effective_at, terms):
            raise peer_messages.late_ticket(ticket.effective_at, terms)


@dataclass(frozen=True, slots=True)
class Destination:
    """A server whose terms key is trusted.

    Attributes:
        client: Asks it.
        discovery: What it says about itself.
        terms_key: The key that the filer trusts; discovery may show one that follows it.
        time: Its clock.
        plain: Asks it for tickets over plain HTTP, where it offers that.
    """

    client: ServerClient
    discovery: ServerDiscovery
    terms_key: VerifierKey
    time: ServerTime
    plain: ServerClient | None = None

    def choose_call(self, call: str | None) -> Origin:
        """The call that was named, or the only one that takes tickets.

        Raises:
            UnknownObjectError: There is no such call here.
            SettingsError: None was named, and there is not exactly one.
        """
        if call is None:
            choice = [one.id for one in self.discovery.calls if one.state == "open"]
            if len(choice) != 1:
                raise peer_messages.choose_a_call(self.discovery)
            call = choice[0]
        elif self.discovery.call(call) is None:
            raise peer_messages.unknown_call(call, self.discovery)
        return Origin(self.discovery.name, call)

    async def fetch_versions(self, origin: Origin, known: Sequence[ServedTerms] = ()) -> Versions:
        """Every version of the call's terms, verified back to the first.

        The latest is signed by a trusted key; it names those before it by hash.

        Args:
            origin: The call.
            known: Versions from an earlier time, oldest first: they are not fetched again, and
                none is where discovery says that the last of them is still the latest.

        Raises:
            VerificationError: A signature, a proof or the succession does not hold.
        """
        summary = self.discovery.call(origin.call)
        if known and summary is not None and summary.terms == known[-1].signed.hash:
            latest = known[-1]
        else:
            latest = await self.client.fetch_terms(origin.call)
        kept = {one.signed.hash: one for one in known}
        latest.signed.verify(self.discovery.terms_key)
        _verify(latest, origin, log_key=latest.signed.terms.keys.log)
        chain = [latest]
        while (before := chain[-1].signed.terms.supersedes) is not None:
            if len(chain) > MAX_TERMS:
                raise FormatError(say("contact.terms-expected-at", MAX_TERMS=MAX_TERMS))
            older = kept.get(before) or await self.client.fetch_terms_version(origin.call, before)
            _verify(older, origin, log_key=latest.signed.terms.keys.log)
            verify_successor(older.signed.terms, chain[-1].signed.terms)
            chain.append(older)
        return Versions(tuple(reversed(chain)))


def _verify(served: ServedTerms, origin: Origin, *, log_key: VerifierKey) -> None:
    if served.signed.origin != origin:
        raise VerificationError(
            say("contact.terms-expected-those", origin=origin, origin_2=served.signed.origin)
        )
    served.signed.verify(served.signed.terms.keys.terms)
    served.entry.verify(log_key, origin, served.signed.hash)


@dataclass(frozen=True, slots=True)
class Reception:
    """Reaches destinations and remembers whom to trust.

    Attributes:
        session: An open session.
        known: The pinned keys.
        clock: This machine's clock.
        listener: Told about first contacts and wrong clocks.
        memory: What servers have answered before.
    """

    session: Session
    known: KnownServers
    clock: Clock
    listener: Listener
    memory: Memory = field(default_factory=Memory)

    async def reach(
        self, url: str, *, given: VerifierKey | None = None, may_pin: bool = True
    ) -> Destination:
        """The destination at ``url``; its key is pinned if it is the first contact.

        Args:
            url: As the filer typed it.
            given: The key that the filer knows otherwise: it counts more than a pinned one.
            may_pin: Whether this contact counts as one; looking around does not.

        Raises:
            SettingsError: Not a URL that may be asked.
            UnavailableError: Nobody answers there as a Bistro server does.
            VerificationError: The key is not the one that is trusted; both are shown.
        """
        url = url.rstrip("/")
        discovery, time = await self._discover(url)
        pin = self.known.find(discovery.name)
        if given is None:
            require_same_server(self.known.at(url), name=discovery.name, url=url)
        require_trusted(
            discovery.terms_key,
            pinned=None if pin is None else pin.terms_key,
            given=given,
            rotations=discovery.rotations,
        )
        if may_pin and (pin is None or pin.terms_key != discovery.terms_key):
            found = Pin(discovery.name, discovery.terms_key, self.clock.now(), url)
            self.known.save(found)
            self.listener.tell(notices.pinned(found, was_given=given is not None))
        if time.is_far_off:
            self.listener.tell(notices.clock_is_off(time.offset_ms or 0))
        client = ServerClient(self.session, discovery.base_url, memory=self.memory)
        plain = None
        if discovery.tickets_url is not None:
            plain = ServerClient(self.session, discovery.tickets_url, allow_http=True)
        return Destination(client, discovery, given or discovery.terms_key, time, plain)

    async def _discover(self, url: str) -> tuple[ServerDiscovery, ServerTime]:
        # Asked by hand, for the ``Date`` of the answer.
        began_ms = self.clock.monotonic_ms()
        try:
            answer = await self.memory.ask(
                self.session, routes.DISCOVERY.url(url), limit=MAX_DISCOVERY_SIZE
            )
            took_ms = self.clock.monotonic_ms() - began_ms
            discovery = ServerDiscovery.decode(answer.body)
        except (FormatError, UnknownObjectError) as exc:
            raise peer_messages.no_server(url, exc) from exc
        if PROTOCOL not in discovery.protocols:
            raise peer_messages.other_protocol(url, discovery.protocols)
        date = answer.headers.get("Date")
        return discovery, ServerTime.from_date(date, self.clock, round_trip_ms=took_ms)
