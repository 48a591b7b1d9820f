"""``collect.*``: how fast a destination gets what relays hold.

| measure | floor |
|---|---|
| ``collect.pull`` | bare ``aiohttp`` + ``uvloop`` streams the same bytes to the same client |
| ``collect.restore`` | read k fragments, one SHA-256, write, fdatasync |
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import uvloop

from bistro.net.session import Session
from bistro.protocol.collection import Source
from bistro.storage.blobs import BlobStore
from bistro.wire.fragment import Descriptor
from bistro_server.services.collecting_files import CollectingFolder, FragmentFiles
from bistro_server.services.collecting_restore import Restored, Restorer
from bistro_server.store.collection import Staged
from tests.bench import clock_error
from tests.bench.destination import Fragment
from tests.bench.floors.restoring import restore as restore_floor
from tests.bench.loads.requests import write_requests
from tests.bench.loads.sending import send_requests
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Sample, Samples
from tests.bench.processes import CORES, Server, metering, pinned
from tests.bench.relaying import RelayUnderTest, pull_batch, serving_floor, serving_relay, upload
from tests.bench.workplace import work_folder
from tests.support.fragments import cut_up

PULL_SIZE: Final = 8_192
PULL_COUNT: Final = 2_000
PULL_SECONDS: Final = 1.5
K: Final = 4
N: Final = 6
CHOSEN: Final = (2, 3, 4, 5)
"""Two data fragments are lost: both must be computed."""
ENVELOPE_SIZE: Final = 67_108_864
_PIECE: Final = 1_048_576
_MB: Final = 1_000_000
_RELAY: Final = "relay.bench.example"


@contextlib.contextmanager
def _open_pull() -> Iterator[Contest]:
    with work_folder() as folder, serving_relay(folder) as relay:
        body = folder / "body"
        body.write_bytes(secrets.token_bytes(PULL_SIZE))
        fragments = _stage(folder, relay, body)
        stream = folder / "stream"
        stream.write_bytes(body.read_bytes() * PULL_COUNT)
        with serving_floor(folder, file=stream) as floor:
            yield Contest(
                lambda: _pull(
                    relay.server, lambda session: pull_batch(relay.collector(session), fragments)
                ),
                lambda: _pull(floor, lambda session: _read_stream(floor, session)),
                clock_error.notes(),
            )


def _stage(folder: Path, relay: RelayUnderTest, body: Path) -> list[Fragment]:
    """Have the relay hold many fragments."""
    data = body.read_bytes()
    fragments = relay.destination.fragments(data, PULL_COUNT, share_checkpoint=True)
    file = folder / "requests"
    # The first claim alone makes the relay fetch the terms.
    for part in (fragments[:1], fragments[1:]):
        write_requests(file, map(upload, part))
        load = send_requests(relay.server.port, file, connections=64, seconds=60, body=body)
        if load.answered != len(part):
            raise NotMeasured(f"the relay took {load.answered} of {len(part)} fragments")
    return fragments


async def _read_stream(floor: Server, session: Session) -> int:
    """Bytes that the floor streams."""
    size = 0
    async with session.stream("GET", floor.url + "/stream") as answer:
        async for chunk in answer.chunks():
            size += len(chunk)
    return size


def _pull(server: Server, once: Callable[[Session], Awaitable[int]]) -> Samples:
    """Pull everything again and again for a while."""

    async def work() -> float:
        async with Session() as session:
            begun_at = time.perf_counter()
            rounds = 0
            while (seconds := time.perf_counter() - begun_at) < PULL_SECONDS:
                if (size := await once(session)) != PULL_COUNT * PULL_SIZE:
                    raise NotMeasured(f"expected {PULL_COUNT * PULL_SIZE} bytes, found {size}")
                rounds += 1
            return rounds * PULL_COUNT / seconds

    with pinned(CORES.load), metering(server) as meter:
        rate = uvloop.run(work())
    return {"collect.pull": Sample(rate, meter.busy)}


@contextlib.contextmanager
def _open_restore() -> Iterator[Contest]:
    with work_folder() as folder:
        files = FragmentFiles(CollectingFolder(folder))
        files.prepare()
        staged, parts = _write_fragments(files)
        paths = [files.path(staged.commitment, source.index, _RELAY) for source in parts]
        blobs = BlobStore(folder / "envelopes")
        restorer = Restorer(files, blobs)
        target = folder / "floor"

        async def restore() -> float:
            begun_at = time.perf_counter()
            if not isinstance(await restorer.restore(staged, parts), Restored):
                raise NotMeasured("the envelope was not restored")
            return time.perf_counter() - begun_at

        def our_round() -> Samples:
            return _restored(uvloop.run(restore()))

        def floor_round() -> Samples:
            begun_at = time.perf_counter()
            restore_floor(paths, target)
            seconds = time.perf_counter() - begun_at
            target.unlink()
            return _restored(seconds)

        yield Contest(our_round, floor_round)


def _restored(seconds: float) -> Samples:
    return {"collect.restore": Sample(ENVELOPE_SIZE / _MB / seconds)}


def _write_fragments(files: FragmentFiles) -> tuple[Staged, dict[Source, Descriptor]]:
    """An envelope's fragments, of which only some have arrived."""
    cut, fragments = cut_up(secrets.token_bytes(_PIECE) * (ENVELOPE_SIZE // _PIECE), k=K, n=N)
    header_leaf = secrets.token_bytes(32)
    commitment = cut.commitment(header_leaf)
    for index in CHOSEN:
        files.path(commitment, index, _RELAY).write_bytes(fragments[index])
    staged = Staged(1, commitment, 0, header_leaf, cut.layout)
    return staged, {Source(index, _RELAY): cut.descriptors[index] for index in CHOSEN}


CASES: Final = (
    Case("collect", (Measure("collect.pull", "fragments/s"),), _open_pull),
    Case("collect", (Measure("collect.restore", "MB/s"),), _open_restore),
)
