"""Reads a call's published log: the proof that a later checkpoint extends an earlier one.

Source: docs/spec/promises.md, published logs; C2SP tlog-tiles; RFC 9162, section 2.1.4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from bistro.crypto.digest import HASH_SIZE
from bistro.crypto.merkle import (
    consistency_nodes,
    prove_consistency,
    root_of,
    verify_consistency,
)
from bistro.errors import FormatError
from bistro.wire.checkpoint import Checkpoint

FetchTile = Callable[[str], Awaitable[bytes]]
"""Fetches a tile such as ``0/x001/067.p/12``."""

_WIDTH: Final = 256
_TILE_LEVEL: Final = 8
_GROUP: Final = 1_000
_Place = tuple[int, int]
"""A tile's level and number."""


async def fetch_consistency(
    old: Checkpoint, new: Checkpoint, fetch_tile: FetchTile
) -> tuple[bytes, ...]:
    """The verified consistency path between two checkpoints of one log.

    Raises:
        FormatError: A tile has another size than it must have.
        VerificationError: The later log does not begin with the earlier one.
    """
    plan = consistency_nodes(old.size, new.size)
    tiles: dict[_Place, bytes] = {}
    for place in _tiles_of(at for group in plan for at in group):
        tiles[place] = await _fetch(place, new.size, fetch_tile)
    path = prove_consistency(old.size, new.size, lambda level, offset: _node(tiles, level, offset))
    verify_consistency(
        old_size=old.size, old_root=old.root, size=new.size, root=new.root, path=path
    )
    return path


def tile_path(level: int, number: int, width: int) -> str:
    """The path of a tile below ``tile/``: numbers in groups of three digits."""
    digits = f"{number % _GROUP:03d}"
    rest = number // _GROUP
    while rest:
        digits = f"x{rest % _GROUP:03d}/{digits}"
        rest //= _GROUP
    return f"{level}/{digits}" + ("" if width == _WIDTH else f".p/{width}")


def _tiles_of(nodes: Iterable[tuple[int, int]]) -> list[_Place]:
    return sorted({_place(level, offset)[0] for level, offset in nodes})


def _place(level: int, offset: int) -> tuple[_Place, int, int]:
    """The tile of a complete subtree, its first hash in there, and how many hashes it has."""
    tile_level, inner = divmod(level, _TILE_LEVEL)
    number, first = divmod(offset << inner, _WIDTH)
    return (tile_level, number), first, 1 << inner


async def _fetch(place: _Place, size: int, fetch_tile: FetchTile) -> bytes:
    level, number = place
    width = min(_WIDTH, (size >> (_TILE_LEVEL * level)) - number * _WIDTH)
    data = await fetch_tile(tile_path(level, number, width))
    if len(data) != width * HASH_SIZE:
        raise FormatError(
            f"tile {tile_path(level, number, width)}: expected {width * HASH_SIZE} bytes, "
            f"found {len(data)}"
        )
    return data


def _node(tiles: dict[_Place, bytes], level: int, offset: int) -> bytes:
    place, first, count = _place(level, offset)
    data = tiles[place]
    hashes = [data[at * HASH_SIZE : (at + 1) * HASH_SIZE] for at in range(first, first + count)]
    return root_of(hashes)
