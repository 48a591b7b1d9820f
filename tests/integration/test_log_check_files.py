"""``bistro-server log check`` over every file of a log, damaged in turn: named, and mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from bistro.crypto.digest import leaf_hash
from bistro.ledger.tiles import decode_bundle
from bistro.storage.locks import FileLock
from bistro_server.services.calls import Call
from tests.integration.test_log_check import call, change, in_thread, root, state_of
from tests.support.shell import Shell

__all__ = ["call", "root"]  # fixtures

FIRST_KEPT = 4
"""The first bundle whose entries the write-ahead file still has; those before are all there is."""


def files_of(log: Path, *patterns: str) -> list[Path]:
    found = sorted(path for pattern in patterns for path in log.glob(pattern) if path.is_file())
    assert found
    return found


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
@pytest.mark.parametrize("is_served", [False, True])
async def test_a_damaged_file_is_named(
    root: Path, call: Call, shell: Shell, damage: str, *, is_served: bool
) -> None:
    """Tiles, partial ones too, bundles, the snapshot and the index: the file, and what to do."""
    log = call.folder.log
    paths = files_of(log, "tile/**/*", "index/mac-key")
    if damage != "gone":  # a snapshot or checkpoint that is gone was perhaps never there
        paths += files_of(log, "index/0*", "snapshot", "checkpoint")
    if damage != "gone" and not is_served:
        paths += files_of(log, "wal/*")
    lock = FileLock.take(log / "lock", what="test") if is_served else None
    for path in paths:
        data = path.read_bytes()
        if damage == "flip":
            change(path, len(data.rstrip(b"\0")) // 2)
        elif damage == "cut":
            path.write_bytes(data[: len(data.rstrip(b"\0")) // 2])
        else:
            path.unlink()
        assert await in_thread(shell, "log", "check", "--dir", root, "--call", "spring") == 1
        assert f"{path}: " in shell.err, shell.err
        assert shell.err.strip().splitlines()[-1].startswith("next: ")
        path.write_bytes(data)
    if lock is not None:
        lock.release()
    assert await in_thread(shell, "log", "check", "--dir", root) == 0, shell.err


async def test_what_is_derived_is_as_it_was_after_a_repair(
    root: Path, call: Call, shell: Shell
) -> None:
    """Every tile, byte for byte, and every bundle whose entries are elsewhere."""
    log = call.folder.log
    before = state_of(log / "tile")
    bundles = [path for path in log.glob("tile/entries/*") if path.is_file()]
    derived = [path for path in before if path not in sorted(bundles)[:FIRST_KEPT]]
    for path in [*derived, log / "snapshot"]:
        path.write_bytes(b"damaged" + path.read_bytes()[7:])
    assert await in_thread(shell, "log", "check", "--dir", root) == 1
    assert await in_thread(shell, "log", "check", "--dir", root, "--repair") == 0, shell.err
    after = state_of(log / "tile")
    assert {path: data for path, (_, data) in after.items()} == {
        path: data for path, (_, data) in before.items()
    }


async def test_no_tile_is_made_of_a_damaged_bundle(root: Path, call: Call, shell: Shell) -> None:
    """Whose entries are nowhere else: the tile stays, and tells which of the two is damaged."""
    log = call.folder.log
    bundle, tile = log / "tile/entries/001", log / "tile/0/001"
    data = bytearray(bundle.read_bytes())
    data[-1] ^= 1
    data[-2] ^= 1
    bundle.write_bytes(data)
    assert len(list(decode_bundle(bytes(data)))) == 256
    for arguments in ((), ("--repair",)):
        assert await in_thread(shell, "log", "check", "--dir", root, *arguments) == 1
        assert f"{bundle}: its entries are not those that were signed" in shell.err
        assert "from whoever mirrors the log" in shell.err
    data[-1] ^= 1
    data[-2] ^= 1
    assert tile.read_bytes() == b"".join(map(leaf_hash, decode_bundle(bytes(data))))
    bundle.write_bytes(data)
    assert await in_thread(shell, "log", "check", "--dir", root, "--repair") == 0, shell.err
