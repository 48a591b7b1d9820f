"""A destination that exists for relays only: its documents, tickets without number, claims.

Relays learn from it what they learn from ``bistro-server``; that it stamps in memory makes
tens of thousands of claims affordable. Nothing is asked of it while a relay is measured.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from bistro.api import routes
from bistro.clock import SystemClock
from bistro.crypto.sealing import generate_identity
from bistro.crypto.signing import SigningKey
from bistro.crypto.treehash import tree_hash
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.claim import Claim
from bistro.wire.clauses import Keys, Relay, Spread
from bistro.wire.discovery import CallSummary, RelayDiscovery, ServerDiscovery
from bistro.wire.entry import TermsEntry
from bistro.wire.fragment import Cut, Descriptor, Layout
from bistro.wire.served_terms import ServedTerms
from bistro.wire.terms import SignedTerms, Terms, build
from bistro.wire.ticket import TermsInForce
from tests.bench.floors.stamping import MemoryLog

ORIGIN: Final = Origin("bench.example", "spring")
HOUR_MS: Final = 3_600_000
_LIMIT: Final = 2**34


@dataclass(frozen=True, slots=True)
class Fragment:
    """One fragment that is a whole envelope, and what shows that it may be staged."""

    commitment: bytes
    fragment_hash: bytes
    size: int
    claim: bytes


class Destination:
    """Keys and log of one call.

    Attributes:
        documents: What it serves, by path.
    """

    def __init__(self) -> None:
        origin = ORIGIN
        self.terms_key = SigningKey.generate(origin.server)
        self.collect_key = SigningKey.generate(origin.collect)
        self._log_key = SigningKey.generate(str(origin))
        self._status_key = SigningKey.generate(origin.status)
        self._log = MemoryLog(str(origin), self._sign)
        self._now = SystemClock().now()
        self.documents: dict[str, bytes] = {}

    def publish(self, url: str, relay: RelayDiscovery | None = None) -> None:
        """Serve discovery at ``url``; with ``relay``, a call that names it, too."""
        calls: tuple[CallSummary, ...] = ()
        if relay is not None:
            signed = self._terms(relay)
            self._serve_terms(signed)
            terms = signed.terms
            calls = (
                CallSummary(
                    id=ORIGIN.call,
                    title=terms.title,
                    state="open",
                    opens=terms.opens,
                    closes=terms.closes,
                    terms=terms.hash,
                ),
            )
        discovery = ServerDiscovery(
            name=ORIGIN.server, terms_key=self.terms_key.verifier, base_url=url, calls=calls
        )
        self.documents[routes.DISCOVERY.path()] = discovery.encode()

    def fragments(self, body: bytes, count: int, *, share_checkpoint: bool) -> list[Fragment]:
        """``count`` envelopes that differ in their headers only, ticketed.

        Args:
            body: The envelope, which is the only fragment of it.
            count: How many.
            share_checkpoint: Whether all tickets come from one batch, or each from its own.
        """
        digest = tree_hash(body)
        layout = Layout(envelope_hash=digest, envelope_size=len(body), k=1, n=1)
        descriptor = Descriptor(index=0, size=len(body), fragment_hash=digest)
        cut = Cut(layout, (descriptor,))
        leaves = [secrets.token_bytes(32) for _ in range(count)]
        commitments = [cut.commitment(leaf) for leaf in leaves]
        tickets = self._stamp(commitments, share_checkpoint=share_checkpoint)
        return [
            Fragment(
                commitment=commitment,
                fragment_hash=digest,
                size=len(body),
                claim=Claim(ORIGIN, ticket, layout, leaf, descriptor, cut.path(0)).encode(),
            )
            for leaf, commitment, ticket in zip(leaves, commitments, tickets, strict=True)
        ]

    def _stamp(self, commitments: Sequence[bytes], *, share_checkpoint: bool) -> list[str]:
        if share_checkpoint:
            return self._log.stamp(commitments, self._now)
        return [self._log.stamp([one], self._now)[0] for one in commitments]

    def _sign(self, size: int, root: bytes) -> bytes:
        checkpoint = Checkpoint(origin=str(ORIGIN), size=size, root=root)
        return checkpoint.signed(self._log_key.verifier, self._log_key.sign(checkpoint.text()))

    def _terms(self, relay: RelayDiscovery) -> SignedTerms:
        closes = UnixMillis(self._now + HOUR_MS)
        terms = Terms(
            origin=ORIGIN,
            title="Benchmark",
            opens=UnixMillis(self._now - HOUR_MS),
            closes=closes,
            grace_ms=1_000,
            stage_by=UnixMillis(closes + HOUR_MS),
            repair_by=UnixMillis(closes + 2 * HOUR_MS),
            recipients=(generate_identity("x25519").recipient.format(),),
            envelope_limit=_LIMIT,
            files_limit=1_000,
            spread=Spread(1, 1),
            keys=Keys(
                terms=self.terms_key.verifier,
                log=self._log_key.verifier,
                collect=self.collect_key.verifier,
                status=self._status_key.verifier,
            ),
            relays=(
                Relay(
                    name=relay.name,
                    operator=relay.operator,
                    url=relay.base_url,
                    vkey=relay.vkey,
                    region=relay.region,
                    weight=1,
                ),
            ),
        )
        return build(terms, self.terms_key)

    def _serve_terms(self, signed: SignedTerms) -> None:
        entry = TermsEntry(origin=str(ORIGIN), time=self._now, digest=signed.hash)
        (proof,) = self._log.append([entry.encode()])
        served = ServedTerms(signed, TermsInForce.parse(proof)).encode()
        self.documents[routes.TERMS.path(call=ORIGIN.call)] = served
        version = routes.TERMS_VERSION.path(call=ORIGIN.call, terms_hash=signed.hash.hex())
        self.documents[version] = served


@contextlib.contextmanager
def serving_documents(documents: Mapping[str, bytes]) -> Iterator[str]:
    """The URL under which ``documents`` answer, from a thread of this process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = documents.get(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of whoever was killed while asking."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
