"""A real ``bistro-relay serve`` that serves one destination, and its floor beside it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from bistro.api import media, routes
from bistro.clock import SystemClock
from bistro.net.collector_client import CollectorClient
from bistro.net.session import Session
from bistro.wire.batches import MAX_ITEMS, Release
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
class RelayUnderTest:
    """The relay, and the destination whose fragments it takes."""

    server: Server
    discovery: RelayDiscovery
    destination: Destination

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
        async with Session() as session:
            collector = self.collector(session)
            left = iter(fragments)
            while part := list(islice(left, MAX_ITEMS)):
                releases = [Release(ORIGIN, one.commitment, 0, one.sha256) for one in part]
                for answer in await collector.release(releases):
                    if isinstance(answer, Failure):
                        raise NotMeasured(f"release: {answer}")

    def collector(self, session: Session) -> CollectorClient:
        """The destination's side of the relay."""
        key = self.destination.collect_key
        return CollectorClient(session, self.server.url, key=key, clock=SystemClock())


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


@contextlib.contextmanager
def serving_relay(folder: Path) -> Iterator[RelayUnderTest]:
    """A new relay in its own process that knows its destination's terms."""
    port, home = free_port(), folder / "relay"
    destination = Destination()
    environment = clock_error.environment("BISTRO_RELAY")

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
            discovery = RelayDiscovery.decode(ask(server.url + routes.RELAY_DISCOVERY.path()))
            destination.publish(url, discovery)
            yield RelayUnderTest(server, discovery, destination)


@contextlib.contextmanager
def serving_floor(folder: Path, *, file: Path | None = None) -> Iterator[Server]:
    """The floor in its own process; ``file`` is what it streams."""
    port, written = free_port(), folder / "written"
    written.mkdir()
    options = () if file is None else ("--file", file)
    command = python("floors.relay", port, written, *options)
    with serving(command, port=port, log=folder / "floor.log") as server:
        yield server


def empty_floor(floor: Server) -> None:
    """Have the floor delete what it wrote."""
    ask(floor.url + "/stored", method="DELETE")
