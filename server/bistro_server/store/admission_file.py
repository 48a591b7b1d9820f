"""The file of a call's admissions: appended to and synced before their tickets are stamped.

```
record  = uint32be size of payload ‖ first 8 bytes of SHA-256(payload) ‖ payload
payload = an ``Admitted``, canonical MessagePack
```

A record that was torn by a crash stood behind everything that was synced, so no ticket rests on
it; ``open`` cuts it off. All functions block.

Source: docs/spec/admission.md, what the destination keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, Self

from bistro.crypto.digest import sha256
from bistro.errors import FormatError, StorageError, UnavailableError, UnknownObjectError
from bistro.storage.durable import (
    SYSTEM_DISK,
    AppendFile,
    Disk,
    ReadFile,
    sync_directory,
    waiting_for_room,
)
from bistro.wire.admission import MAX_KEPT_SIZE, Admitted

MAX_BATCH_SIZE: Final = 1_048_576
"""Bytes that one ``append`` may write."""

_SIZE: Final = 4
_SUM: Final = 8
_HEAD: Final = _SIZE + _SUM
_CHUNK: Final = 65_536


def _framed(admitted: Admitted) -> bytes:
    payload = admitted.encode()
    return len(payload).to_bytes(_SIZE, "big") + sha256(payload)[:_SUM] + payload


def _next(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The payload that begins at ``at``, and where it ends; ``None``: it is not whole."""
    start = at + _HEAD
    size = int.from_bytes(data[at : at + _SIZE], "big")
    payload = data[start : start + size]
    is_whole = 0 < size <= MAX_KEPT_SIZE and len(payload) == size
    if not is_whole or sha256(payload)[:_SUM] != data[at + _SIZE : start]:
        return None
    return payload, start + size


class AdmissionFile:
    """A call's admissions, open for appending; obtained from ``open``. One owner."""

    def __init__(self, file: AppendFile, disk: Disk) -> None:
        self._file = file
        self._disk = disk
        self._size = file.size
        self._is_torn = False

    @classmethod
    def open(cls, path: Path, *, known_size: int, disk: Disk = SYSTEM_DISK) -> Self:
        """The file, made if it is missing, without what a crash tore.

        Args:
            path: Its folder exists.
            known_size: Bytes from the beginning that are known to be whole records.
            disk: The system calls to use.

        Raises:
            StorageError: The disk failed, or the file is shorter than was known.
        """
        try:
            file = AppendFile.open(path, disk=disk)
        except UnknownObjectError:
            file = AppendFile.create(path, disk=disk)
        try:
            # Who made the name that is found may have died here: it is synced at every start.
            sync_directory(path.parent, disk=disk)
            _mend(file, known_size)
        except BaseException:
            file.close()
            raise
        return cls(file, disk)

    @property
    def size(self) -> int:
        """Bytes that are durable."""
        return self._size

    def append(self, admitted: Sequence[Admitted]) -> None:
        """Write admissions; all of them are durable when this returns.

        Raises:
            UnavailableError: The disk is full. No ticket may rest on any of them; the next call
                tidies up first, and goes on once there is room.
            StorageError: Any of them may be on the medium, whole or torn: no ticket may rest on
                them, and the file must be opened again.
        """
        data = b"".join(map(_framed, admitted))
        if len(data) > MAX_BATCH_SIZE:
            raise ValueError(f"expected at most {MAX_BATCH_SIZE} bytes at once, found {len(data)}")
        try:
            with waiting_for_room("admissions"):
                if self._is_torn:
                    self._reopen()
                self._file.append(data)
                # A crash here leaves records without tickets, which mean nothing.
                self._file.sync()
        except UnavailableError:
            self._is_torn = True
            raise
        self._size = self._file.size

    def _reopen(self) -> None:
        """Cut off what a full disk tore, as a start does."""
        self._is_torn = False
        self._file.close()
        self._file = AppendFile.open(self._file.path, disk=self._disk)
        _mend(self._file, self._size)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def _mend(file: AppendFile, known_size: int) -> None:
    """Cut off what is torn, and make sure that the rest is on the medium."""
    if file.size < known_size:
        raise StorageError(
            f"{file.path}: expected at least {known_size} bytes, found {file.size}",
            hint="do not continue with this copy; restore the newest",
        )
    whole = known_size
    for _, end in _records(file, known_size):
        whole = end
    if whole < file.size:
        file.truncate(whole)
    # What the last batch wrote may never have reached the medium, and read well still.
    file.renew(max(known_size, whole - MAX_BATCH_SIZE), whole)


def read_admissions(
    path: Path, start: int, *, limit: int, stop: int | None = None, disk: Disk = SYSTEM_DISK
) -> tuple[list[Admitted], int]:
    """The records from byte ``start``, at most ``limit``, and where they end.

    Args:
        path: The file; there may be none yet.
        start: Where a record begins.
        limit: Most records.
        stop: Where the durable records end, while somebody appends; ``None``: nobody does.
        disk: The system calls to use.

    Raises:
        StorageError: The disk failed, or a record is whole and is none.
    """
    found: list[Admitted] = []
    try:
        file = ReadFile.open(path, disk=disk)
    except UnknownObjectError:
        return found, start
    with file:
        read = start
        for payload, end in islice(_records(file, start), limit):
            if stop is not None and end > stop:
                break
            try:
                found.append(Admitted.decode(payload))
            except FormatError as exc:
                raise StorageError(
                    f"{path}: {exc.message}", hint="restore the file from a copy"
                ) from exc
            read = end
        return found, read


def _records(file: ReadFile, start: int) -> Iterator[tuple[bytes, int]]:
    """Payloads and ends of the whole records from ``start`` to the first that is not."""
    data, base, at = b"", start, 0
    while True:
        found = _next(data, at)
        if found is None:
            is_there = len(data) - at >= _HEAD + MAX_KEPT_SIZE
            more = b"" if is_there else file.read(offset=base + len(data), size=_CHUNK)
            if not more:
                return
            data, base, at = data[at:] + more, base + at, 0
            continue
        payload, at = found
        yield payload, base + at
