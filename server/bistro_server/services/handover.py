"""``index.jsonl``: one line for every commitment of a call, for whoever takes over from here.

Source: docs/spec/opening.md, inbox.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from bistro.storage.durable import (
    SYSTEM_DISK,
    AppendFile,
    Disk,
    delete_file,
    storage_errors,
    sync_directory,
    temporary_for,
)
from bistro.wire.document import Json, encode_json
from bistro_server.store.opening_results import Result

INDEX: Final = "index.jsonl"
_FLUSH_SIZE: Final = 262_144


class IndexWriter:
    """Writes the index; it appears whole when ``finish`` returns. Every method blocks.

    Args:
        folder: The inbox of the call.
        disk: The system calls to use.
    """

    def __init__(self, folder: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._path = folder / INDEX
        self._disk = disk
        self._temporary = temporary_for(self._path)
        self._pending = bytearray()
        self._is_done = False
        self._file = AppendFile.create(self._temporary, disk=disk)

    def __enter__(self) -> Self:
        """The writer; what is not finished at the end of the block is removed."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Give the descriptor back."""
        self._file.close()
        if not self._is_done:
            delete_file(self._temporary, disk=self._disk)

    def add(self, result: Result) -> None:
        """Append the line of the next commitment."""
        self._pending += encode_json(line_of(result)) + b"\n"
        if len(self._pending) >= _FLUSH_SIZE:
            self._flush()

    def finish(self) -> None:
        """Make it durable under its name."""
        self._flush()
        self._file.sync()
        with storage_errors("replace", self._path):
            # A crash before this leaves the old index, or none; the next opening writes it.
            self._disk.rename(self._temporary, self._path)
        self._is_done = True
        sync_directory(self._path.parent, disk=self._disk)

    def _flush(self) -> None:
        self._file.append(bytes(self._pending))
        self._pending.clear()


def line_of(result: Result) -> dict[str, Json]:
    """The object of one commitment."""
    header = None if result.signed is None else result.signed.header
    unpacked = result.unpacked
    previous = None if header is None else header.previous
    return {
        "commitment": result.commitment.hex(),
        "files": None if unpacked is None else unpacked.file_count,
        "filer": None if header is None else header.filer_key.hex(),
        "form": None if unpacked is None else unpacked.form,
        "index": result.log_index,
        "kind": None if header is None else header.kind,
        "outcome": result.outcome,
        "previous": None if previous is None else previous.hex(),
        "reasons": [{"code": one.code, "text": one.text} for one in result.reasons],
        "size": None if unpacked is None else unpacked.size,
        "slot": None if header is None else header.slot,
        "ticketed_at": result.ticketed_at,
    }
