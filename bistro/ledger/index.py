"""The duplicate index: which entry has a key; derived, and rebuilt if it is lost.

It covers what has been published; the keys of newer entries are in the ledger's memory. Every
pass adds a run of sorted rows, a thread merges sixteen of a size into one, and three bytes for
each key in memory tell nearly all new keys without touching the disk.

Source: docs/spec/storage.md, duplicate index.
"""

from __future__ import annotations

import secrets
import struct
import threading
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from bistro.crypto.bulk import keyed_digests
from bistro.errors import StorageError
from bistro.ledger.fingerprints import Fingerprints
from bistro.ledger.merging import Merger, is_mergeable
from bistro.ledger.rows import DIGEST_SIZE, cut, make_rows
from bistro.ledger.runs import (
    CHECK_SIZE,
    NAME,
    Run,
    RunPlace,
    merge_rows,
    write_run,
)
from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    make_directories,
    read_file,
    storage_errors,
    sync_directory,
    write_atomically,
)

KEY_FILE: Final = "mac-key"
SECRET_SIZE: Final = 16

_CRC = struct.Struct(">I")


class DuplicateIndex:
    """Keys and the indexes of their entries; obtained from ``open``.

    One thread adds; any thread may ask.

    Attributes:
        reach: It holds the keys of all entries below this index.
    """

    def __init__(self, directory: Path, secret: bytes, *, disk: Disk) -> None:
        self.reach = 0
        self._directory = directory
        self._disk = disk
        self._secret = secret
        self._check = keyed_digests(secret, [b"check"])[:CHECK_SIZE]
        self._prints = Fingerprints()
        self._runs: list[Run] = []
        self._lock = threading.Lock()
        self._merging = threading.Lock()
        self._merger = Merger(self._merge_next)

    @classmethod
    def open(cls, directory: Path, *, disk: Disk = SYSTEM_DISK) -> Self:
        """Open the index; what is missing or damaged is left out, and ``reach`` says so.

        Raises:
            StorageError: The disk failed.
        """
        make_directories(directory, disk=disk)
        path = directory / KEY_FILE
        secret = _load_secret(path, disk)
        if secret is None:
            # Runs that were made with another one tell so: they are left out.
            secret = secrets.token_bytes(SECRET_SIZE)
            write_atomically(path, secret + _CRC.pack(zlib.crc32(secret)), disk=disk)
        index = cls(directory, secret, disk=disk)
        with suppress(StorageError):
            # What is damaged is made anew from the entries; so is what follows it.
            index._load()
        index._clean()
        # Who gave a run its name may have died before the folder was synced, and from here on
        # segments of the write-ahead file are dropped because the runs are there.
        sync_directory(directory, disk=disk)
        return index

    @classmethod
    def look(cls, directory: Path, *, disk: Disk = SYSTEM_DISK) -> Self:
        """The index as it is, to be read only; ``close`` it.

        Raises:
            UnknownObjectError: A run was merged into another one meanwhile; look again.
            StorageError: Something is missing or damaged, or the disk failed.
        """
        secret = _load_secret(directory / KEY_FILE, disk)
        if secret is None:
            raise StorageError(
                f"{directory / KEY_FILE}: missing or damaged",
                hint="the duplicate index is made anew from the entries when the ledger is opened",
            )
        index = cls(directory, secret, disk=disk)
        try:
            index._load()
        except BaseException:
            index.close()
            raise
        return index

    def _names(self) -> list[str]:
        with storage_errors("list", self._directory):
            return [path.name for path in self._directory.iterdir()]

    def _load(self) -> None:
        found: dict[int, int] = {}
        for match in filter(None, map(NAME.fullmatch, self._names())):
            start, end = int(match[1]), int(match[2])
            found[start] = max(end, found.get(start, 0))
        while (end := found.get(self.reach, 0)) > self.reach:
            run = Run.open(self._place(self.reach, end), prints=self._prints)
            self._runs.append(run)
            self.reach = end

    def _clean(self) -> None:
        """Delete what belongs to no run."""
        kept = {self._place(run.start, run.end).path.name for run in self._runs}
        for name in set(self._names()) - kept - {KEY_FILE}:
            with storage_errors("delete", self._directory / name):
                self._disk.delete(self._directory / name)

    def _place(self, start: int, end: int) -> RunPlace:
        return RunPlace(self._directory, start, end, self._check, self._disk)

    def digests(self, keys: list[bytes]) -> tuple[bytes, ...]:
        """What stands for each key in the runs, 16 bytes."""
        return cut(keyed_digests(self._secret, keys), DIGEST_SIZE)

    @contextmanager
    def held(self) -> Iterator[list[Run]]:
        """All runs; none of them is merged or deleted while the block runs."""
        with self._merging:
            with self._lock:
                runs = list(self._runs)
            yield runs

    def suspects(self, keys: list[bytes]) -> list[bytes]:
        """The keys that may be known, without touching the disk; none that is known is missing."""
        if not self.reach:
            return []
        return self._prints.suspects(keys, keyed_digests(self._secret, keys))

    def find(self, keys: list[bytes]) -> dict[bytes, int]:
        """The index of the entry of each key that is known; blocks while files are read.

        Raises:
            StorageError: The disk failed.
        """
        found: dict[bytes, int] = {}
        suspects = self.suspects(keys)
        with self._lock:
            for key, digest in zip(suspects, self.digests(suspects), strict=True):
                for run in reversed(self._runs):
                    index = run.find(digest)
                    if index is not None:
                        found[key] = index
                        break
        return found

    def add(self, keys: Sequence[bytes], size: int) -> None:
        """Add the keys of the entries from ``reach`` on, durably, and move the reach.

        Args:
            keys: One for each entry; empty where it has none.
            size: The new reach.

        Raises:
            StorageError: All of it or nothing will be found; or merging has failed.
        """
        self._merger.require_running()
        indexes = array("Q", [index for index, key in enumerate(keys, self.reach) if key])
        digests = keyed_digests(self._secret, [key for key in keys if key])
        rows = make_rows(digests, indexes)
        place = self._place(self.reach, size)
        run = write_run(place, [rows] if rows else [], count=len(indexes))
        # Whoever asks finds the keys in the ledger's memory until they are in both of these.
        self._prints.add(rows)
        with self._lock:
            self._runs.append(run)
            self.reach = size
        if is_mergeable(self._runs):
            self._merger.wake(len(self._runs))

    def _merge_next(self, between: Callable[[], None]) -> bool:
        """Merge one group of runs, if there is one."""
        with self._merging:
            with self._lock:
                runs = list(self._runs)
            group = is_mergeable(runs)
            if not group:
                return False
            merged = write_run(
                self._place(group[0].start, group[-1].end),
                merge_rows(group, between),
                count=sum(run.count for run in group),
            )
            with self._lock:
                at = self._runs.index(group[0])
                self._runs[at : at + len(group)] = [merged]
            for run in group:
                run.delete(self._disk)
        return True

    def close(self) -> None:
        """Close; a merge that is under way is given up."""
        self._merger.close()
        with self._lock:
            for run in self._runs:
                run.close()


def _load_secret(path: Path, disk: Disk) -> bytes | None:
    """The secret of an index, or ``None`` where it is missing or damaged."""
    data = read_file(path, max_size=1 << 20, disk=disk) or b""
    secret = data[:SECRET_SIZE]
    is_whole = data == secret + _CRC.pack(zlib.crc32(secret)) and len(secret) == SECRET_SIZE
    return secret if is_whole else None
