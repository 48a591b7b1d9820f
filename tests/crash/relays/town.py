"""What surrounds a relay: a destination on paper, and fragments with claims that hold.

Made once and used by all runs: each has a relay of its own, so a fragment is new in each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bistro.api import routes
from bistro.clock import SystemClock
from bistro.crypto.keyfile import encode_note_key
from bistro.instant import UnixMillis
from bistro.storage.durable import make_directories, write_atomically
from bistro.wire.claim import Claim
from bistro.wire.discovery import CallSummary, ServerDiscovery
from bistro.wire.staging import StagedRow
from bistro_relay.cli.setup import settings_text
from bistro_relay.settings import FILE_NAME
from bistro_relay.store.destinations import Destination, DestinationFiles
from bistro_relay.store.schema import open_database
from bistro_relay.store.terms import TermsStore
from tests.bench.destination import serving_documents
from tests.support.paper import HOUR_MS, RELAY, PaperCall, Sealed, paper_terms
from tests.support.strategies import note_key

AUTHORITY: Final = "127.0.0.1:8441"
"""What the relay calls itself; where it listens is another port in each life."""

Key = tuple[bytes, int]
"""A commitment and the number of its fragment."""

SMALL_SIZES: Final = (1, 600, 1_500, 4_000, 4_000, 12_000, 32_000, 32_768)
LARGE_SIZES: Final = (32_769, 50_000, 90_000, 200_000, 400_000)
HUGE_SIZES: Final = (1_048_576, 1_048_577, 1_500_000)
"""Around the real limit of what shares a segment."""

_YEAR_MS: Final = 365 * 24 * HOUR_MS


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """One fragment, and what shows that it may be staged.

    Attributes:
        key: Commitment and index.
        data: Its bytes.
        claim: Encoded.
        fragment_hash: Of its bytes.
    """

    key: Key
    data: bytes
    claim: bytes
    fragment_hash: bytes


def key_of(row: StagedRow) -> Key:
    """Which fragment a row is about."""
    claim = Claim.decode(row.claim)
    return claim.commitment, claim.descriptor.index


def spell(key: Key) -> str:
    """A key for people."""
    return f"fragment {key[0].hex()[:12]}/{key[1]}"


@dataclass
class Town:
    """A destination and the fragments that its filers have; obtained from ``publishing``.

    Attributes:
        call: What tickets are of; each run has its own terms.
        url: Where it answers.
        documents: What it serves, by path.
        small: Fragments that come whole and share segments.
        large: Those beyond, where sizes are small.
        huge: Around the limit where sizes are real.
    """

    call: PaperCall
    url: str
    documents: dict[str, bytes]
    small: Sequence[Fragment]
    large: Sequence[Fragment]
    huge: Sequence[Fragment]

    def begin_run(self, *, repair_by: UnixMillis | None = None) -> PaperCall:
        """Serve a call as it was at first; its terms may be extended.

        Args:
            repair_by: When nothing is taken any more; ``None``: in a year.
        """
        versions = [] if repair_by is not None else list(self.call.versions)
        call = PaperCall(now=self.call.now, versions=versions)
        if repair_by is not None:
            ends = dict.fromkeys(("stage_by", "repair_by"), repair_by)
            closes = UnixMillis(repair_by - call.terms.grace_ms)
            call.versions.clear()
            call.publish(paper_terms(call.origin, now=call.now, closes=closes, **ends))
        self.publish(call)
        return call

    def publish(self, call: PaperCall) -> None:
        """Serve discovery and all terms of a call."""
        origin, terms = call.origin, call.terms
        summary = CallSummary(
            id=origin.call,
            title=terms.title,
            state="open",
            opens=terms.opens,
            closes=terms.closes,
            terms=terms.hash,
        )
        discovery = ServerDiscovery(
            name=origin.server,
            terms_key=note_key(origin.server).verifier,
            base_url=self.url,
            calls=(summary,),
        )
        self.documents[routes.DISCOVERY.path()] = discovery.encode()
        for served in call.versions:
            terms_hash = served.signed.hash.hex()
            path = routes.TERMS_VERSION.path(call=origin.call, terms_hash=terms_hash)
            self.documents[path] = self.documents[routes.TERMS.path(call=origin.call)] = (
                served.encode()
            )

    async def make_relay(self, folder: Path, call: PaperCall | None = None) -> None:
        """A relay's folder, as ``init`` and ``allow`` make it.

        Args:
            folder: Does not exist.
            call: Whose terms it has fetched before, if any.
        """
        host, _, port = AUTHORITY.partition(":")
        given: dict[str, str | int] = {
            "relay.name": RELAY,
            "relay.operator": "Crash campaign",
            "http.host": host,
            "http.port": int(port),
            "http.base_url": f"http://{AUTHORITY}",
        }
        make_directories(folder / "keys")
        key = note_key(RELAY)
        write_atomically(folder / "keys" / "relay.key", encode_note_key(key))
        write_atomically(folder / FILE_NAME, settings_text(given).encode())
        server = note_key(self.call.origin.server).verifier
        allowed = Destination(server.name, self.url, server, None, SystemClock().now())
        DestinationFiles(folder).save(allowed)
        if call is not None:
            database = await open_database(folder)
            try:
                await TermsStore(database).save(call.versions[-1])
            finally:
                await database.close()


@contextlib.contextmanager
def publishing() -> Iterator[Town]:
    """A town whose destination answers as long as the block runs."""
    call = PaperCall(now=SystemClock().now())
    call.extend(_YEAR_MS)
    small, large, huge = _cut_all(call)
    documents: dict[str, bytes] = {}
    with serving_documents(documents) as url:
        yield Town(call, url, documents, small, large, huge)


def _cut_all(call: PaperCall) -> list[list[Fragment]]:
    found: list[list[Fragment]] = []
    number = 0
    for sizes, rounds in ((SMALL_SIZES, 18), (LARGE_SIZES, 8), (HUGE_SIZES, 2)):
        some: list[Fragment] = []
        for size in sizes * rounds:
            number += 1
            some += _cut(call, number, size)
        found.append(some)
    return found


def _cut(call: PaperCall, number: int, size: int) -> Iterator[Fragment]:
    """The three fragments of an envelope, each of ``size`` bytes."""
    sealed = Sealed(number, size=2 * size)
    cut, first = sealed.cut, call.claim(sealed)
    for descriptor in cut.descriptors:
        index = descriptor.index
        claim = replace(first, descriptor=descriptor, path=cut.path(index)).encode()
        data = sealed.fragment(index)
        yield Fragment((sealed.commitment, index), data, claim, descriptor.fragment_hash)
