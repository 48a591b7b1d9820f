"""Searches folders for what must not be there: the marks, names and keys that a relay never sees.

The search is trusted only after it has found the same things where they must be.
"""

from __future__ import annotations

import base64
import mmap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.e2e.demo.filings import FILERS, NAME_MARK, TEXT_MARK

Needles = Mapping[str, bytes]
"""What is searched for, by what it is."""


def needles_for(filer_keys: Iterable[bytes]) -> dict[str, bytes]:
    """Everything readable of filings and filers.

    Args:
        filer_keys: The filers' public keys, 32 bytes each.
    """
    needles = {"the mark of every name": NAME_MARK.encode(), "the mark of every text": TEXT_MARK}
    needles |= {f"the filer {name}": name.encode() for name in FILERS}
    for number, key in enumerate(filer_keys, 1):
        needles[f"key {number}, as bytes"] = key
        needles[f"key {number}, as hexadecimal digits"] = key.hex().encode()
        # Without the last characters, which depend on what follows.
        needles[f"key {number}, as base64"] = base64.b64encode(key)[:40]
    return needles


def search(folder: Path, needles: Needles) -> list[str]:
    """A sentence for each needle that stands in a file or a name below ``folder``."""
    found: list[str] = []
    for path in _files(folder):
        name = path.relative_to(folder).as_posix().encode()
        data = _contents(path)
        try:
            found += [
                f"{path.name}: contains {what}"
                for what, needle in needles.items()
                if data.find(needle) >= 0 or needle in name
            ]
        finally:
            if isinstance(data, mmap.mmap):
                data.close()
    return found


def size_of(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    yield from (path for path in folder.rglob("*") if path.is_file())


def _contents(path: Path) -> bytes | mmap.mmap:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
