"""A destination on paper: keys, terms, a log in memory, tickets, claims and fragments.

It needs no server; ``publishing`` serves its discovery and terms on loopback, as relays ask
for them. Everything is signed by keys that are the same in every run.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from aiohttp import web

from bistro.api import media, routes
from bistro.crypto.digest import sha256
from bistro.crypto.signing import SigningKey, VerifierKey
from bistro.crypto.treehash import tree_hash
from bistro.daemon.web import Endpoint
from bistro.errors import UnknownObjectError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.claim import Claim
from bistro.wire.clauses import Spread
from bistro.wire.discovery import CallSummary, ServerDiscovery
from bistro.wire.entry import TermsEntry, TicketEntry
from bistro.wire.fragment import Cut, Descriptor, Layout
from bistro.wire.served_terms import ServedTerms
from bistro.wire.terms import SignedTerms, Terms, build
from bistro.wire.ticket import TermsInForce
from tests.support.clocks import NOON
from tests.support.promises import MemoryLedger
from tests.support.serving import serving
from tests.support.strategies import X25519_RECIPIENTS, call_keys, note_key, relay_named

SPRING = Origin("permits.example", "spring")
HOUR_MS = 3_600_000
RELAY = "relay.example"


def paper_terms(origin: Origin = SPRING, *, now: UnixMillis = NOON, **changes: object) -> Terms:
    """Terms of a call that is open now, and takes data for three hours."""
    fields: dict[str, object] = {
        "origin": origin,
        "title": "Spring permits",
        "opens": UnixMillis(now - HOUR_MS),
        "closes": UnixMillis(now + HOUR_MS),
        "grace_ms": 1_000,
        "stage_by": UnixMillis(now + 2 * HOUR_MS),
        "repair_by": UnixMillis(now + 3 * HOUR_MS),
        "recipients": tuple(X25519_RECIPIENTS[:1]),
        "envelope_limit": 1 << 30,
        "files_limit": 100,
        "spread": Spread(2, 3),
        "keys": call_keys(origin),
        "relays": (relay_named(RELAY),),
    }
    return Terms(**(fields | changes))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Sealed:
    """An envelope that was cut: its fragments, and what its commitment is made of.

    The fragments are noise: a relay cannot tell, and looks at their hashes only.
    """

    number: int
    size: int = 10_000
    k: int = 2
    n: int = 3

    def fragment(self, index: int) -> bytes:
        """The same bytes in every run."""
        seed = f"envelope {self.number} fragment {index}".encode()
        return hashlib.shake_256(seed).digest(self.layout.fragment_size)

    @property
    def layout(self) -> Layout:
        return Layout(sha256(f"envelope {self.number}".encode()), self.size, self.k, self.n)

    @cached_property
    def cut(self) -> Cut:
        descriptors = tuple(
            Descriptor(index, self.layout.fragment_size, tree_hash(self.fragment(index)))
            for index in range(self.n)
        )
        return Cut(self.layout, descriptors)

    @property
    def header_leaf(self) -> bytes:
        return sha256(f"header {self.number}".encode())

    @property
    def commitment(self) -> bytes:
        return self.cut.commitment(self.header_leaf)


@dataclass
class PaperCall:
    """A call with its log in memory.

    Attributes:
        versions: Its terms, oldest first, as they are served.
    """

    origin: Origin = SPRING
    now: UnixMillis = NOON
    versions: list[ServedTerms] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = MemoryLedger(note_key(str(self.origin)))
        if not self.versions:
            self.publish(paper_terms(self.origin, now=self.now))

    @property
    def terms(self) -> Terms:
        return self.versions[-1].signed.terms

    @property
    def collect_key(self) -> SigningKey:
        return note_key(self.origin.collect)

    def publish(self, terms: Terms, *keys: SigningKey) -> SignedTerms:
        """Sign ``terms`` and put them into the log."""
        signed = build(terms, *(keys or (note_key(self.origin.server),)))
        entry = TermsEntry(origin=str(self.origin), time=self.now, digest=signed.hash)
        proof = TermsInForce.parse(self.log.promise(entry))
        self.versions.append(ServedTerms(signed, proof))
        return signed

    def extend(self, by_ms: int, **changes: object) -> Terms:
        """A new version whose ``repair_by`` is later."""
        old = self.terms
        fields = {
            "version": old.version + 1,
            "supersedes": old.hash,
            "repair_by": UnixMillis(old.repair_by + by_ms),
        }
        return self.publish(replace(old, **(fields | changes))).terms  # type: ignore[arg-type]

    def ticket(self, commitment: bytes) -> str:
        """A ticket of this call's log."""
        entry = TicketEntry(origin=str(self.origin), time=self.now, digest=commitment)
        return self.log.promise(entry)

    def claim(self, sealed: Sealed, index: int = 0, **changes: object) -> Claim:
        """A claim for one fragment, with a fresh proof of the ticket."""
        fields: dict[str, object] = {
            "origin": self.origin,
            "promise": self.ticket(sealed.commitment),
            "layout": sealed.layout,
            "header_leaf": sealed.header_leaf,
            "descriptor": sealed.cut.descriptors[index],
            "path": sealed.cut.path(index),
        }
        return Claim(**(fields | changes))  # type: ignore[arg-type]


@dataclass
class PaperServer:
    """What a destination serves: discovery, and terms of its calls.

    Attributes:
        key: What discovery shows.
        fetches: Paths that were asked for.
        failure: What is answered instead, if anything.
    """

    calls: list[PaperCall]
    key: VerifierKey = field(default_factory=lambda: note_key(SPRING.server).verifier)
    rotations: tuple[str, ...] = ()
    url: str = ""
    fetches: list[str] = field(default_factory=list)
    failure: Exception | None = None

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(routes.DISCOVERY, self._discovery),
            Endpoint(routes.TERMS, self._terms),
            Endpoint(routes.TERMS_VERSION, self._version),
        ]

    def _note(self, request: web.Request) -> None:
        self.fetches.append(request.path)
        if self.failure is not None:
            raise self.failure

    async def _discovery(self, request: web.Request) -> web.Response:
        self._note(request)
        summaries = tuple(
            CallSummary(
                id=call.origin.call,
                title=call.terms.title,
                state="open",
                opens=call.terms.opens,
                closes=call.terms.closes,
                terms=call.terms.hash,
            )
            for call in self.calls
        )
        found = ServerDiscovery(
            name=self.key.name,
            terms_key=self.key,
            base_url=self.url,
            calls=summaries,
            rotations=self.rotations,
        )
        return _json(found.encode())

    def _find(self, request: web.Request) -> PaperCall:
        wanted = request.match_info["call"]
        found = [call for call in self.calls if call.origin.call == wanted]
        if not found:
            raise UnknownObjectError("no such call")
        return found[0]

    async def _terms(self, request: web.Request) -> web.Response:
        self._note(request)
        return _json(self._find(request).versions[-1].encode())

    async def _version(self, request: web.Request) -> web.Response:
        self._note(request)
        wanted = request.match_info["terms_hash"]
        for served in self._find(request).versions:
            if served.signed.hash.hex() == wanted:
                return _json(served.encode())
        raise UnknownObjectError("no such version")


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": media.JSON})


@contextlib.asynccontextmanager
async def publishing(*calls: PaperCall) -> AsyncIterator[PaperServer]:
    """A server on loopback for as long as the block runs."""
    server = PaperServer(list(calls))
    async with serving(*server.endpoints()) as url:
        server.url = url
        yield server
