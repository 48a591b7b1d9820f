"""Reads a published log without the code that wrote it: bundles, tiles, roots.

Source: C2SP tlog-tiles; RFC 9162, section 2.1; docs/spec/promises.md, published logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bistro.api import routes
from bistro.crypto.signing import VerifierKey
from bistro.wire.checkpoint import Checkpoint, verify_checkpoint
from tests.crash.connections import Connection, GoneError, fetch, get
from tests.crash.tickets.memory import LedgerName
from tests.crash.trees import leaf, roots_at

WIDTH: Final = 256
_MISSING: Final = 404


def number_path(number: int) -> str:
    """1234067 is ``x001/x234/067``."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return "/".join(groups)


def split_bundle(data: bytes) -> Iterator[bytes]:
    """The entries of a bundle.

    Raises:
        ValueError: It ends within one.
    """
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data):
            raise ValueError(f"a bundle of {len(data)} bytes ends within an entry")
        yield data[at + 2 : end]
        at = end


async def read_log(
    connection: Connection, ledger: LedgerName, key: VerifierKey
) -> tuple[Checkpoint | None, list[bytes]]:
    """The newest checkpoint and all entries that it covers, as a monitor reads them.

    Raises:
        GoneError: Something is not served.
        BistroError: The checkpoint is not signed by ``key``.
        ValueError: A bundle is malformed, or the entries do not lead to the signed root.
    """
    call, name = ledger
    is_log = name == "log"
    route = routes.LOG_CHECKPOINT if is_log else routes.REFUSALS_CHECKPOINT
    tile = routes.LOG_TILE if is_log else routes.REFUSALS_TILE
    path = route.path(call=call)
    status, note = await connection.ask(get(path))
    if status == _MISSING and not is_log:
        return None, []
    if status != 200:
        raise GoneError(f"{path}: status {status}: {note[:200]!r}")
    checkpoint = verify_checkpoint(note, key)
    entries: list[bytes] = []
    while len(entries) < checkpoint.size:
        number, width = len(entries) // WIDTH, min(WIDTH, checkpoint.size - len(entries))
        partial = "" if width == WIDTH else f".p/{width}"
        where = tile.path(call=call, tile=f"entries/{number_path(number)}{partial}")
        found = list(split_bundle(await fetch(connection, where)))
        if len(found) != width:
            raise ValueError(f"{where}: expected {width} entries, found {len(found)}")
        entries += found
    root = roots_at(list(map(leaf, entries)), [checkpoint.size])[checkpoint.size]
    if root != checkpoint.root:
        raise ValueError(f"{path}: its {checkpoint.size} entries do not lead to its root")
    return checkpoint, entries


def static_faults(folder: Path, entries: Sequence[bytes]) -> tuple[list[str], int]:
    """Where the tiles and bundles of a ledger's folder differ from its entries; how many are there.

    Args:
        folder: The ledger's; ``tile`` is below it.
        entries: All of them.
    """
    hashes, level, faults, count = list(map(leaf, entries)), 0, list[str](), 0
    for number in range(len(entries) // WIDTH):
        path = folder / "tile" / "entries" / number_path(number)
        count += path.exists()
        if path.exists() and list(split_bundle(path.read_bytes())) != list(
            entries[number * WIDTH : (number + 1) * WIDTH]
        ):
            faults.append(f"{path}: not the entries of the log")
    while len(hashes) >= WIDTH:
        above = []
        for number in range(len(hashes) // WIDTH):
            group = hashes[number * WIDTH : (number + 1) * WIDTH]
            above.append(roots_at(group, [WIDTH])[WIDTH])
            path = folder / "tile" / str(level) / number_path(number)
            count += path.exists()
            if path.exists() and path.read_bytes() != b"".join(group):
                faults.append(f"{path}: not the hashes of the log")
        hashes, level = above, level + 1
    return faults, count
