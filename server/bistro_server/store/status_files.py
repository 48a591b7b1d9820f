"""Signed status and outcome notes as files, which HTTP serves without signing or a database.

``status/<call>/<2 hex digits>/<commitment>.status`` for everybody, and
``…/<commitment>.<token>.outcome`` for who knows the token.

Source: docs/spec/opening.md, status.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bistro.errors import UnknownObjectError
from bistro.storage.durable import make_directories, read_file, sync_directory, write_atomically

MAX_NOTE_SIZE: Final = 1_000_000
_PEEK_SIZE: Final = 4_096
"""More than a status has."""
_NO_WAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)


class StatusFiles:
    """The folder of notes; all methods block.

    Args:
        directory: ``status/`` of the server's folder.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write_all(self, call: str, notes: Mapping[bytes, bytes]) -> None:
        """Replace the statuses of several commitments; returns when all are durable.

        Raises:
            StorageError: Each file is the old or the new one.
        """
        folders = set()
        for commitment, note in notes.items():
            path = self._status_path(call, commitment)
            make_directories(path.parent)
            write_atomically(path, note, sync_name=False)
            folders.add(path.parent)
        for folder in folders:
            sync_directory(folder)

    def write_outcome(self, call: str, commitment: bytes, *, token: bytes, note: bytes) -> None:
        """Replace the outcome of a commitment; returns when it is durable.

        Raises:
            StorageError: The file is the old or the new one.
        """
        path = self._outcome_path(call, commitment, token)
        make_directories(path.parent)
        write_atomically(path, note)

    def read_status(self, call: str, commitment: bytes) -> bytes:
        """The signed status of a commitment.

        Raises:
            UnknownObjectError: There is none, or none yet.
        """
        return _read(self._status_path(call, commitment))

    def peek_status(self, call: str, name: str) -> bytes | None:
        """The signed status of a commitment if no disk has to be waited for, else ``None``.

        Args:
            call: The call's id.
            name: The commitment, 64 lower-case hexadecimal digits.

        Raises:
            UnknownObjectError: There is none, or none yet.
        """
        if _NO_WAIT is None:
            return None
        try:
            file = os.open(f"{self._directory}/{call}/{name[:2]}/{name}.status", os.O_RDONLY)
        except FileNotFoundError as exc:
            raise _unknown() from exc
        except OSError:
            return None
        buffer = bytearray(_PEEK_SIZE)
        try:
            size = os.preadv(file, [buffer], 0, _NO_WAIT)
        except OSError:
            return None  # it is not in memory, or this file system cannot tell
        finally:
            os.close(file)
        return bytes(buffer[:size]) if 0 < size < _PEEK_SIZE else None

    def read_outcome(self, call: str, commitment: bytes, *, token: bytes) -> bytes:
        """The signed outcome of a commitment.

        Raises:
            UnknownObjectError: There is none yet, or the token is another one.
        """
        return _read(self._outcome_path(call, commitment, token))

    def _folder(self, call: str, commitment: bytes) -> Path:
        return self._directory / call / commitment[:1].hex()

    def _status_path(self, call: str, commitment: bytes) -> Path:
        return self._folder(call, commitment) / f"{commitment.hex()}.status"

    def _outcome_path(self, call: str, commitment: bytes, token: bytes) -> Path:
        return self._folder(call, commitment) / f"{commitment.hex()}.{token.hex()}.outcome"


def _read(path: Path) -> bytes:
    data = read_file(path, max_size=MAX_NOTE_SIZE)
    if data is None:
        raise _unknown()
    return data


def _unknown() -> UnknownObjectError:
    return UnknownObjectError(
        "there is no status of this commitment here", hint="check call, commitment and token"
    )
