"""``client.*``: what a filer's machine does before it asks for a ticket; all in this process.

| measure | floor |
|---|---|
| ``client.seal`` | read, ChaCha20-Poly1305, one SHA-256, write, no fsync, on two threads |
| ``client.erasure`` | ``libisal`` alone, where the machine has it; one core each |
| ``client.erasure.python`` | the same; ours without the library |
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pyrage  # type: ignore[import-untyped] # it ships no types

from bistro.crypto.age.x25519 import X25519Identity
from bistro.crypto.erasure import Coder, Kernel, best_kernel
from bistro.crypto.erasure_python import PythonKernel
from bistro.protocol.fragmenting import RowCutter
from bistro.protocol.submission import Request
from bistro.wire.clauses import Spread
from bistro.wire.terms import build
from bistro_client import keyring, sealing
from bistro_client.gathering import gather
from bistro_client.home import Folder
from tests.bench.floors import isal
from tests.bench.floors import sealing as sealing_floor
from tests.bench.measuring import Case, Contest, Measure, NotMeasured, Sample, Samples
from tests.bench.processes import CORES, pinned
from tests.bench.workplace import work_folder
from tests.support.evidence import ORIGIN, SERVER_KEY, first_terms

K: Final = 4
N: Final = 6
MIB: Final = 1_048_576
SEAL_SIZE: Final = 1_024 * MIB
UNIT: Final = MIB // K
CODED_SIZE: Final = 128 * MIB
_MB: Final = 1_000_000


def _rate(name: str, size: int, seconds: float) -> Samples:
    return {name: Sample(size / _MB / seconds)}


def write_random(path: Path, size: int) -> None:
    """Fill a file; afterwards it stands in the page cache."""
    with path.open("wb") as file:
        for at in range(0, size, MIB):
            file.write(secrets.token_bytes(min(MIB, size - at)))


@contextlib.contextmanager
def _open_seal(size: int) -> Iterator[Contest]:
    with work_folder() as folder:
        source = folder / "source.bin"
        write_random(source, size)
        order = order_of(folder, source)
        target = folder / "floor"

        def our_round() -> Samples:
            place = Folder(folder / "submission")
            place.path.mkdir()
            begun_at = time.perf_counter()
            sealing.seal(order, place)
            seconds = time.perf_counter() - begun_at
            shutil.rmtree(place.path)
            return _rate("client.seal", size, seconds)

        def floor_round() -> Samples:
            begun_at = time.perf_counter()
            sealing_floor.seal(source, target)
            seconds = time.perf_counter() - begun_at
            target.unlink()
            return _rate("client.seal", size, seconds)

        alone = f"{_pyrage(source, target):.0f} MB/s"
        note = f"client.seal: {size // MIB} MiB; encryption alone, by pyrage: {alone}"
        yield Contest(our_round, floor_round, (note,))


def order_of(folder: Path, source: Path) -> sealing.Order:
    """Seal ``source`` as a filing of one file for a call with (4, 6)."""
    terms = build(first_terms(spread=Spread(K, N), envelope_limit=1 << 40), SERVER_KEY)
    request = Request(
        sources=(str(source),),
        server_url="http://127.0.0.1",
        terms_key=SERVER_KEY.verifier.format(),
        origin=ORIGIN,
        slot="main",
    )
    key = keyring.create(folder / "filer.pem")
    return sealing.Order.new(request, gather([source]), terms, key)


def _pyrage(source: Path, target: Path) -> float:
    """What another implementation of age takes for encryption alone, in MB/s."""
    recipient = X25519Identity(secrets.token_bytes(32)).recipient.format()
    begun_at = time.perf_counter()
    pyrage.encrypt_file(str(source), str(target), [pyrage.x25519.Recipient.from_str(recipient)])
    seconds = time.perf_counter() - begun_at
    target.unlink()
    return source.stat().st_size / _MB / seconds


@contextlib.contextmanager
def _open_erasure() -> Iterator[Contest]:
    piece = bytearray(secrets.token_bytes(MIB))
    units = [bytes(piece[at : at + UNIT]) for at in range(0, MIB, UNIT)]
    library = isal.find()

    def our_round() -> Samples:
        found = _cut_rate(piece, PythonKernel(), "client.erasure.python")
        return {**found, **_cut_rate(piece, best_kernel(), "client.erasure")}

    if library is None:
        note = "client.erasure is pure Python and has no floor here: install libisal2"
        yield Contest(our_round, None, (note,))
        return
    coder = isal.Isal(library, k=K, n=N, size=UNIT)
    coder.encode(units)
    if coder.parity() != Coder(K, N, kernel=PythonKernel()).encode(units):
        raise NotMeasured("libisal computes another code than ours")

    def floor_round() -> Samples:
        with pinned(CORES.server):
            begun_at = time.perf_counter()
            for _ in range(CODED_SIZE // MIB):
                coder.encode(units)
            seconds = time.perf_counter() - begun_at
        names = ("client.erasure", "client.erasure.python")
        return {name: Sample(CODED_SIZE / _MB / seconds) for name in names}

    yield Contest(our_round, floor_round, (f"client.erasure: computed by {best_kernel().name}",))


def _cut_rate(piece: bytearray, kernel: Kernel, name: str) -> Samples:
    """Rows of ``piece`` to units, parity included, on one core."""
    cutter = RowCutter(k=K, n=N, kernel=kernel)
    with pinned(CORES.server), memoryview(piece) as view:
        begun_at = time.perf_counter()
        for _ in range(CODED_SIZE // MIB):
            for at in range(0, MIB, cutter.row_size):
                cutter.cut(view[at : at + cutter.row_size])
        return _rate(name, CODED_SIZE, time.perf_counter() - begun_at)


def cases(seal_size: int = SEAL_SIZE) -> tuple[Case, ...]:
    """All cases; ``seal_size`` is the size of what is sealed."""
    return (
        Case("client", (Measure("client.seal", "MB/s", goal=0.5),), partial(_open_seal, seal_size)),
        Case(
            "client",
            (Measure("client.erasure", "MB/s"), Measure("client.erasure.python", "MB/s")),
            _open_erasure,
        ),
    )
