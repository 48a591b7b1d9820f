"""A real ``bistro-relay serve`` that serves one destination, and its floor beside it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Self

import trustme

from bistro.api import media, routes
from bistro.clock import SystemClock
from bistro.net.collector_client import CollectorClient
from bistro.net.session import Session
from bistro.wire.batches import MAX_ITEMS, BatchItem, Release
from bistro.wire.discovery import RelayDiscovery
from bistro.wire.receipt import Receipt
from bistro.wire.staging import Failure
from tests.bench import clock_error
from tests.bench.destination import ORIGIN, Destination, Fragment, serving_documents
from tests.bench.loads.requests import post
from tests.bench.measuring import NotMeasured
from tests.bench.processes import Server, free_port, program, python, run, serving
from tests.bench.workplace import ask

NAME: Final = "relay.bench.example"


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: a certificate chain for ``localhost``, its key, and who vouches for it."""

    chain: Path
    key: Path
    ca: Path

    @classmethod
    def issue(cls, folder: Path) -> Self:
        """A new one, from an authority of its own."""
        found = cls(folder / "chain.pem", folder / "key.pem", folder / "ca.pem")
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(found.chain)
        issued.private_key_pem.write_to_path(found.key)
        authority.cert_pem.write_to_path(found.ca)
        return found


@dataclass(frozen=True, slots=True)
class RelayUnderTest:
    """The relay, and the destination whose fragments it takes; ``ca``: it is spoken to over TLS."""

    server: Server
    discovery: RelayDiscovery
    destination: Destination
    ca: Path | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return _url(self.server, self.ca)

    def verify(self, receipt: bytes, fragments: Sequence[Fragment]) -> None:
        """Check one receipt, as it stands in the header field."""
        found = Receipt.parse(base64.b64decode(receipt))
        found.verify(self.discovery.vkey, ORIGIN)
        if found.commitment not in {fragment.commitment for fragment in fragments}:
            raise NotMeasured("a receipt is for a commitment that nobody sent")

    def release(self, fragments: Sequence[Fragment]) -> None:
        """Have the relay delete fragments."""
        asyncio.run(self._release(fragments))

    async def _release(self, fragments: Sequence[Fragment]) -> None:
        async with Session(ca_path=self.ca) as session:
            collector = self.collector(session)
            left = iter(fragments)
            while part := list(islice(left, MAX_ITEMS)):
                releases = [Release(ORIGIN, one.commitment, 0, one.fragment_hash) for one in part]
                for answer in await collector.release(releases):
                    if isinstance(answer, Failure):
                        raise NotMeasured(f"release: {answer}")

    def collector(self, session: Session) -> CollectorClient:
        """The destination's side of the relay."""
        key = self.destination.collect_key
        return CollectorClient(session, self.url, key=key, clock=SystemClock())

    def pull(self, fragments: Sequence[Fragment]) -> None:
        """Have a destination fetch fragments, each whole; what their bytes hash to is checked."""
        asyncio.run(self._pull(fragments))

    async def _pull(self, fragments: Sequence[Fragment]) -> None:
        async with Session(ca_path=self.ca) as session:
            left = iter(fragments)
            while part := list(islice(left, MAX_ITEMS)):
                size = await pull_batch(self.collector(session), part)
                if size != (expected := sum(one.size for one in part)):
                    raise NotMeasured(f"batch: expected {expected} bytes, found {size}")


def upload(fragment: Fragment, body: bytes = b"", *, path: str | None = None) -> bytes:
    """The one request that stages a fragment; without ``body`` it is sent separately."""
    headers: dict[str, str | int] = {
        "Content-Type": media.TUS_BYTES,
        "Content-Length": fragment.size,
        routes.TUS_RESUMABLE: routes.TUS_VERSION,
        routes.LENGTH: fragment.size,
        routes.METADATA: f"{routes.CLAIM_KEY} {base64.b64encode(fragment.claim).decode()}",
    }
    return post(path or routes.UPLOAD_CREATION.path(), headers, body)


async def pull_batch(collector: CollectorClient, fragments: Sequence[Fragment]) -> int:
    """Bytes of fragments that one batch brings.

    Raises:
        NotMeasured: One of them did not come.
    """
    size = 0
    async with collector.fetch_batch([BatchItem(one.commitment, 0) for one in fragments]) as frames:
        async for frame in frames:
            if isinstance(frame, bytes):
                size += len(frame)
            elif frame.code is not None:
                raise NotMeasured(f"batch: {frame.code}")
    return size


def _url(server: Server, ca: Path | None) -> str:
    return server.url if ca is None else f"https://localhost:{server.port}"


@contextlib.contextmanager
def serving_relay(
    folder: Path, *, certificate: Certificate | None = None
) -> Iterator[RelayUnderTest]:
    """A new relay in its own process that knows its destination's terms."""
    port, home = free_port(), folder / "relay"
    destination = Destination()
    ca = None if certificate is None else certificate.ca
    environment = clock_error.environment("BISTRO_RELAY")
    if certificate is not None:
        environment |= {
            "BISTRO_RELAY_HTTP__BASE_URL": f"https://localhost:{port}",
            "BISTRO_RELAY_HTTP__CERTIFICATE_PATH": str(certificate.chain),
            "BISTRO_RELAY_HTTP__KEY_PATH": str(certificate.key),
        }

    def bistro_relay(*arguments: str | int | Path) -> None:
        run(program("bistro-relay", *arguments), environment=environment)

    with serving_documents(destination.documents) as url:
        destination.publish(url)
        names = ("--name", NAME, "--operator", "Benchmark")
        bistro_relay("init", home, *names, "--port", port)
        trust = destination.terms_key.verifier.format()
        bistro_relay("allow", url, "--trust", trust, "--dir", home)
        command = program("bistro-relay", "serve", "--dir", home)
        log = folder / "relay.log"
        with serving(command, port=port, log=log, environment=environment) as server:
            path = routes.RELAY_DISCOVERY.path()
            discovery = RelayDiscovery.decode(ask(_url(server, ca) + path, ca=ca))
            destination.publish(url, discovery)
            yield RelayUnderTest(server, discovery, destination, ca)


@contextlib.contextmanager
def serving_floor(
    folder: Path, *, file: Path | None = None, certificate: Certificate | None = None
) -> Iterator[Server]:
    """The floor in its own process; ``file`` is what it streams."""
    port, written = free_port(), folder / "written"
    written.mkdir()
    options: list[str | Path] = [] if file is None else ["--file", file]
    if certificate is not None:
        options += ["--certificate", certificate.chain, "--key", certificate.key]
    command = python("floors.relay", port, written, *options)
    with serving(command, port=port, log=folder / "floor.log") as server:
        yield server


def empty_floor(floor: Server, *, ca: Path | None = None) -> None:
    """Have the floor delete what it wrote."""
    ask(_url(floor, ca) + "/stored", method="DELETE", ca=ca)
