"""Tiles: their paths have one spelling, and what was written is what is read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import StorageError, UnknownObjectError
from bistro.ledger.tiles import (
    TILE_SIZE,
    TileFiles,
    TilePath,
    decode_bundle,
    encode_bundle,
)
from tests.support.disks import FaultyDisk, How, KilledError


def test_the_specification_s_example() -> None:
    """C2SP tlog-tiles: 1234067 is ``x001/x234/067``."""
    assert TilePath(0, 1_234_067).format() == "tile/0/x001/x234/067"
    assert TilePath("entries", 5, 17).format() == "tile/entries/005.p/17"


@given(
    st.builds(
        TilePath,
        st.just("entries") | st.integers(0, 63),
        st.integers(0, 10**12),
        st.integers(1, 256),
    )
)
def test_parsing_undoes_formatting(path: TilePath) -> None:
    """For every level, number and width."""
    assert TilePath.parse(path.format()) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tile/0/0",
        "tile/0/x000/001",
        "tile/00/001",
        "tile/64/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/../snapshot",
        "tile/entries/001\n",
        "snapshot",
    ],
)
def test_any_other_spelling_names_nothing(text: str) -> None:
    """So a path from the network never becomes a path on the disk."""
    with pytest.raises(UnknownObjectError):
        TilePath.parse(text)


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_bundles_give_back_their_entries(entries: list[bytes]) -> None:
    """And a bundle that is cut is damaged, except between two entries."""
    bundle = encode_bundle(entries)
    assert list(decode_bundle(bundle)) == entries
    if bundle:
        whole = len(encode_bundle(entries[:-1]))
        for cut in range(whole + 1, len(bundle)):
            with pytest.raises(StorageError, match="ends within an entry"):
                list(decode_bundle(bundle[:cut]))


def test_hashes_are_read_from_full_tiles(tmp_path: Path) -> None:
    """By position within their level, whichever tile that is in."""
    files = TileFiles(tmp_path)
    tiles = [bytes([number]) * TILE_SIZE for number in range(3)]
    for number, tile in enumerate(tiles):
        files.write(TilePath(1, number), tile)
    files.sync()
    assert files.hash_at(1, 0) == bytes(32)
    assert files.hash_at(1, 2 * 256 + 255) == b"\2" * 32
    assert files.tile(1, 1) == tiles[1]


def test_only_the_latest_tiles_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are read."""
    monkeypatch.setattr("bistro.ledger.tiles._CACHED", 2)
    files = TileFiles(tmp_path)
    for number in range(5):
        files.write(TilePath(0, number), bytes(TILE_SIZE))
        files.sync()
        files.hash_at(0, number * 256)
    assert len(files._cache) == 2


def test_missing_and_short_tiles_are_damage(tmp_path: Path) -> None:
    """The message names the file and how to have it made again."""
    files = TileFiles(tmp_path)
    with pytest.raises(StorageError, match="tile/0/007: missing") as caught:
        files.tile(0, 7)
    assert "snapshot" in caught.value.hint
    files.write(TilePath(0, 7), b"short")
    files.sync()
    with pytest.raises(StorageError, match="expected 8192 bytes, found 5"):
        files.tile(0, 7)


def test_many_tiles_are_synced_together_before_any_has_its_name(tmp_path: Path) -> None:
    """Whoever serves the folder never sees part of one; a second sync has nothing to do."""
    disk = FaultyDisk()
    files = TileFiles(tmp_path, disk=disk)
    for number in range(4):
        files.write(TilePath(0, number), bytes(TILE_SIZE))
    assert not list((tmp_path / "tile/0").glob("0*"))
    begun = len(disk.calls)
    files.sync()
    files.sync()
    assert disk.calls[begun:] == ["sync"] * 4 + ["rename"] * 4 + ["sync_directory"]
    assert len(list((tmp_path / "tile/0").iterdir())) == 4


def write_four(files: TileFiles) -> None:
    for number in range(4):
        files.write(TilePath(0, number), bytes([number]) * TILE_SIZE)
    files.sync()


@pytest.mark.parametrize("how", ["not-stored", "stored", "full", "kill"])
@pytest.mark.parametrize("step", range(3 + 2 * 3 + 2))
def test_whatever_step_fails_no_tile_is_there_in_part(tmp_path: Path, step: int, how: How) -> None:
    """Writing them again completes them; what a crash left is cleaned away."""
    disk = FaultyDisk()
    files = TileFiles(tmp_path, disk=disk)
    files.write(TilePath(0, 0), bytes(TILE_SIZE))
    files.sync()
    disk.fail_at(step, how)
    with pytest.raises((StorageError, KilledError)):
        write_four(files)
    for path in (tmp_path / "tile/0").glob("0*"):
        assert path.stat().st_size == TILE_SIZE
    disk.heal()
    files = TileFiles(tmp_path, disk=disk)
    files.clean(0, 4 * 256)
    assert not list((tmp_path / "tile/0").glob(".*"))
    write_four(files)
    assert [files.tile(0, number)[0] for number in range(4)] == [0, 1, 2, 3]
