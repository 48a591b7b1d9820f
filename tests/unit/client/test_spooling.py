"""What lies in the spool is the envelope, cut as specified, whatever came first or last."""

from __future__ import annotations

import base64
import random  # noqa: TID251 - seeded in every test
from pathlib import Path

import pytest

from bistro.crypto.erasure import MAX_UNITS
from bistro.crypto.sealing import Opener
from bistro.errors import StorageError
from bistro.protocol.archive import ArchiveReader, FileData
from bistro.protocol.fragmenting import StripeReader
from bistro.protocol.submission import Request, Sealed
from bistro.storage.disk import SystemDisk
from bistro.wire.clauses import Spread
from bistro.wire.fragment import Layout
from bistro.wire.terms import Padding, build
from bistro_client.fragments import open_fragment
from bistro_client.gathering import gather
from bistro_client.home import Folder
from bistro_client.keyring import create
from bistro_client.milling import LEAST_SLAB
from bistro_client.sealing import Order, seal
from bistro_client.spool import SpoolFile
from tests.support.disks import PartingDisk
from tests.support.evidence import ORIGIN, SERVER_KEY, first_terms
from tests.support.fragments import cut_up

CHUNK = 65_536


def order_of(folder: Path, sizes: list[int], spread: Spread, padding: Padding = "none") -> Order:
    """A filing of files of these sizes."""
    filing = folder / "filing"
    filing.mkdir(parents=True)
    for number, size in enumerate(sizes):
        (filing / f"{number:05}").write_bytes(random.Random(number).randbytes(size))
    terms = build(first_terms(spread=spread, padding=padding, envelope_limit=1 << 30), SERVER_KEY)
    key = SERVER_KEY.verifier.format()
    request = Request((str(filing),), "http://127.0.0.1", key, ORIGIN, "main")
    return Order.new(request, gather([filing]), terms, create(folder / "filer.pem"))


def sealed_in(folder: Path, order: Order) -> tuple[Folder, Sealed]:
    place = Folder(folder / "submission")
    place.path.mkdir()
    return place, seal(order, place)


def whole(place: Folder, layout: Layout, index: int) -> bytes:
    """A fragment, read in pieces of an odd size."""
    with open_fragment(place, layout, index) as fragment:
        step = max(1, layout.fragment_size // 3)
        starts = range(0, layout.fragment_size + step, step)
        return b"".join(fragment.read(offset=at, size=step) for at in starts)


def require_as_specified(place: Folder, sealed: Sealed, order: Order) -> None:
    """Cut the envelope again, all at once, and open it."""
    layout = sealed.cut.layout
    assert len(list(place.spool.iterdir())) == layout.k
    fragments = [whole(place, layout, index) for index in range(layout.n)]
    reader = StripeReader(k=layout.k, n=layout.n, envelope_size=layout.envelope_size)
    envelope, at = b"", 0
    while size := reader.next_size:
        envelope += reader.feed({i: fragments[i][at : at + size] for i in range(layout.k)})
        at += size
    assert cut_up(envelope, k=layout.k, n=layout.n) == (sealed.cut, fragments)
    opener = Opener.with_file_key(base64.b64decode(place.file_key.read_bytes()))
    archive = ArchiveReader(files_limit=100_000, size_limit=1 << 40)
    events = archive.feed(opener.feed(envelope)) + archive.feed(opener.finish())
    archive.finish()
    found = b"".join(event.data for event in events if isinstance(event, FileData))
    assert found == b"".join(source.disk.read_bytes() for source in order.sources)


# A head of one file has 2,560 bytes, a file 512 bytes and its padding, the end 1,024.
EDGE = CHUNK - 2_560 - 512 - 1_024
SIZES = [0, 1, EDGE - 1, EDGE, EDGE + 1, EDGE + 512, 2 * CHUNK, 4 * CHUNK - 3_000]
SIZES += [LEAST_SLAB, LEAST_SLAB + EDGE + 1_024, 4 * LEAST_SLAB + 77]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 3), (2, 2), (2, 3), (4, 6), (40, 41)])
def test_a_file_of_any_size_is_cut_as_specified(tmp_path: Path, size: int, k: int, n: int) -> None:
    """At the edges of the lead, of chunks, rows and slabs; most rows are cut before the first."""
    order = order_of(tmp_path, [size], Spread(k, n))
    require_as_specified(*sealed_in(tmp_path, order), order)


@pytest.mark.parametrize("padding", ["none", "padme"])
def test_a_long_manifest_is_sealed_last_as_well(tmp_path: Path, padding: Padding) -> None:
    """Its hashes are known last, and it fills several chunks and rows."""
    order = order_of(tmp_path, [number % 700 for number in range(1_500)], Spread(2, 3), padding)
    place, sealed = sealed_in(tmp_path, order)
    assert place.manifest.stat().st_size > 2 * CHUNK
    require_as_specified(place, sealed, order)


def test_the_widest_spread_is_cut_as_specified(tmp_path: Path) -> None:
    """A row of 16 MiB, of which most is the rest."""
    order = order_of(tmp_path, [3_000_000], Spread(MAX_UNITS - 1, MAX_UNITS))
    require_as_specified(*sealed_in(tmp_path, order), order)


class Reluctant(PartingDisk):
    """A disk that takes a part of what it is given, as a system may."""

    def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
        return super().write(fd, bytes(data)[:40_000], offset=offset)


def test_a_disk_that_takes_little_at_a_time_gets_all(tmp_path: Path) -> None:
    """A short write is no error, and no gap."""
    order = order_of(tmp_path, [400_000], Spread(2, 3))
    place = Folder(tmp_path / "submission")
    place.path.mkdir()
    require_as_specified(place, seal(order, place, disk=Reluctant()), order)


def test_many_units_are_written_in_several_calls(tmp_path: Path) -> None:
    """A system takes so many in one; where they belong does not depend on that."""
    units = [bytes([number % 251]) * (number % 7) for number in range(3_000)]
    path = tmp_path / "0.fragment"
    file = SpoolFile(path)
    file.write([memoryview(unit) for unit in units], offset=5)
    file.start()
    file.sync()
    file.close()
    assert path.read_bytes() == bytes(5) + b"".join(units)


# --- failures


def test_a_disk_that_fails_under_any_thread_fails_the_sealing(tmp_path: Path) -> None:
    """Rows are written by several threads; whichever meets the fault, it is told."""
    order = order_of(tmp_path, [3_000_000], Spread(2, 3))
    for at in (0, 7, 20, 40):
        place = Folder(tmp_path / f"{at}")
        place.path.mkdir()
        with pytest.raises(StorageError, match=r"write .*: No space left"):
            seal(order, place, disk=Refusing(at))


class Refusing(PartingDisk):
    """A disk that is full after so many units."""

    def __init__(self, room: int) -> None:
        self._room = room

    def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
        self._room -= 1
        if self._room < 0:
            raise OSError(28, "No space left on device")
        return super().write(fd, data, offset=offset)


class Syncless(SystemDisk):
    """A disk whose sync fails."""

    def sync(self, fd: int) -> None:
        raise OSError(5, "Input/output error")


def test_a_sync_that_fails_fails_the_sealing(tmp_path: Path) -> None:
    """What was written early and lost is told there as well; nothing was promised yet."""
    order = order_of(tmp_path, [1_000_000], Spread(2, 3))
    place = Folder(tmp_path / "submission")
    place.path.mkdir()
    with pytest.raises(StorageError, match=r"sync .*0\.fragment: Input/output error"):
        seal(order, place, disk=Syncless())


def test_parity_needs_every_data_fragment(tmp_path: Path) -> None:
    """One that is missing is named; one that was cut off shortens what can be computed."""
    order = order_of(tmp_path, [400_000], Spread(2, 3))
    place, sealed = sealed_in(tmp_path, order)
    layout = sealed.cut.layout
    data = place.fragment(1).read_bytes()
    place.fragment(1).write_bytes(data[:-100])
    with open_fragment(place, layout, 2) as parity:
        assert len(parity.read(offset=0, size=layout.fragment_size)) == len(data) - 100
    place.fragment(1).unlink()
    with pytest.raises(StorageError, match=r"1\.fragment: .* missing"):
        open_fragment(place, layout, 2)
    with open_fragment(place, layout, 0) as first:
        assert len(first.read(offset=0, size=len(data))) == len(data)
