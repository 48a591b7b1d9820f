"""Reads the fragments of a sealed submission: data from the spool, parity computed from it.

The spool holds the envelope, as its k data fragments. Byte i of a parity fragment is made of
the bytes i of these, so any part of it can be had at any time, and needs no room on the disk.
For k = 1 all fragments are one file.

Source: docs/spec/fragments.md, erasure code; docs/spec/journal.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from bistro.crypto.erasure import Coder
from bistro.errors import UnknownObjectError
from bistro.storage.durable import SYSTEM_DISK, Disk, ReadFile
from bistro.wire.fragment import Layout
from bistro_client import messages
from bistro_client.home import Folder


class SpooledFragment:
    """One fragment, open for reading: a context manager that closes it.

    Args:
        index: Of the fragment.
        files: The one that holds it, or all data fragments.
        coder: Computes it from all data fragments; ``None`` where it lies in a file.
        path: What is named to the filer where it is damaged.
    """

    def __init__(
        self, index: int, files: Sequence[ReadFile], coder: Coder | None, *, path: Path
    ) -> None:
        self._index = index
        self._files = files
        self._coder = coder
        self.path = path

    def __enter__(self) -> Self:
        """The fragment itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""
        self.close()

    def read(self, *, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset`` on; fewer at the end, or where a file is cut off.

        Raises:
            StorageError: A file cannot be read.
        """
        units = [file.read(offset=offset, size=size) for file in self._files]
        if self._coder is None:
            return units[0]
        least = min(map(len, units))
        return self._coder.parity([unit[:least] for unit in units], self._index)

    def close(self) -> None:
        """Give the descriptors back, once nobody reads."""
        for file in self._files:
            file.close()


def open_fragment(
    folder: Folder, layout: Layout, index: int, *, disk: Disk = SYSTEM_DISK
) -> SpooledFragment:
    """Fragment ``index`` of the submission in ``folder``; blocks.

    Raises:
        StorageError: A file that it needs is missing, or cannot be opened.
    """
    is_parity = index >= layout.k > 1
    wanted = range(layout.k) if is_parity else [index % layout.k]
    files: list[ReadFile] = []
    with ExitStack() as stack:
        for number in wanted:
            files.append(_open(folder.fragment(number), disk))
            stack.callback(files[-1].close)
        stack.pop_all()
    coder = Coder(layout.k, layout.n) if is_parity else None
    return SpooledFragment(index, files, coder, path=folder.spool if coder else files[0].path)


def _open(path: Path, disk: Disk) -> ReadFile:
    try:
        return ReadFile.open(path, disk=disk)
    except UnknownObjectError as exc:
        raise messages.lost_fragment(path) from exc
