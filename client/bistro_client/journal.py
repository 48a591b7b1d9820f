"""The journal of one submission on disk: owned by one process, written before each step.

A write replaces ``journal.json`` atomically. A crash before the rename leaves the state before,
a crash after it the state after; either way ``resume`` repeats at most a step that is harmless
to repeat (see ``bistro.protocol.submission``).

Source: docs/spec/journal.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from bistro.errors import BistroError, StorageError, UnavailableError
from bistro.protocol.journal import (
    MAX_JOURNAL_SIZE,
    decode_journal,
    encode_journal,
    newer_version,
)
from bistro.protocol.submission import Submission
from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    make_directories,
    read_file,
    write_atomically,
)
from bistro.storage.finishing import finish
from bistro.storage.locks import FileLock
from bistro_client import messages
from bistro_client.home import Folder
from bistro_client.leftovers import sweep_folder
from bistro_client.wording import say


def read_journal(folder: Folder) -> Submission:
    """What the journal says, without owning it: for looking only.

    Raises:
        StorageError: It is missing or damaged; the hint says how to go on.
    """
    data = read_file(folder.journal, max_size=MAX_JOURNAL_SIZE)
    if data is None:
        raise messages.missing_journal(folder.path, is_sealed=folder.sealed.exists())
    try:
        submission = decode_journal(data)
        if submission.id != folder.id:
            raise StorageError(
                say("journal.expected-id-found", folder=folder.id, submission=submission.id)
            )
    except BistroError as exc:
        _require_not_newer(folder, data)
        raise messages.damaged_journal(folder.path, exc, is_sealed=folder.sealed.exists()) from exc
    return submission


def _require_not_newer(folder: Folder, data: bytes | None) -> None:
    """What a newer program wrote is not damaged, and must not be replaced by an older state."""
    version = None if data is None else newer_version(data)
    if version is not None:
        raise messages.newer_journal(folder.path, version)


def _read_what_is_there(folder: Folder) -> bytes | None:
    try:
        return read_file(folder.journal, max_size=MAX_JOURNAL_SIZE)
    except StorageError:
        return None  # too long, or a bad disk: damaged in any case


def _read_copy(folder: Folder) -> Submission:
    """The journal as it was when sealing ended."""
    data = read_file(folder.sealed, max_size=MAX_JOURNAL_SIZE)
    try:
        if data is not None:
            return decode_journal(data)
    except BistroError as exc:
        raise messages.nothing_to_recover(folder.id) from exc
    raise messages.nothing_to_recover(folder.id)


class Journal:
    """A submission's journal, owned until ``close``; obtained by ``create`` or ``open``.

    Attributes:
        folder: Where it lies.
        submission: What is on disk.
    """

    def __init__(self, folder: Folder, submission: Submission, lock: FileLock, disk: Disk) -> None:
        self.folder = folder
        self.submission = submission
        self.disk = disk
        self._lock = lock
        self._writing = asyncio.Lock()

    @classmethod
    def create(cls, folder: Folder, submission: Submission, *, disk: Disk = SYSTEM_DISK) -> Self:
        """Begin a submission: from here on it is listed, and ``resume`` finds it.

        Raises:
            StorageError: Nothing was begun.
        """
        make_directories(folder.path, disk=disk)
        lock = _take(folder)
        try:
            write_atomically(folder.journal, encode_journal(submission), disk=disk)
        except BaseException:
            lock.release()
            raise
        return cls(folder, submission, lock, disk)

    @classmethod
    def open(cls, folder: Folder, *, disk: Disk = SYSTEM_DISK) -> Self:
        """Own the journal of a submission that was begun.

        Raises:
            UnavailableError: Another process is at work on it.
            StorageError: It is missing or damaged.
        """
        lock = _take(folder)
        try:
            # Read only under the lock: who held it until now may have written.
            submission = read_journal(folder)
        except BaseException:
            lock.release()
            raise
        return cls(folder, submission, lock, disk)

    @classmethod
    def recover(cls, folder: Folder, *, disk: Disk = SYSTEM_DISK) -> Self:
        """Own a submission whose journal is damaged, from the copy made when it was sealed.

        That state is old but true: the ticket is asked for again and is the same one, and
        fragments that relays hold already are answered with their receipts. The damaged file is
        kept beside it.

        Raises:
            StorageError: There is no copy, or it is damaged too; or the journal is not damaged
                but a newer program's.
        """
        lock = _take(folder)
        try:
            _require_not_newer(folder, _read_what_is_there(folder))
            submission = _read_copy(folder)
            if folder.journal.exists():
                disk.rename(folder.journal, folder.journal.with_suffix(".damaged"))
            write_atomically(folder.journal, encode_journal(submission), disk=disk)
        except BaseException:
            lock.release()
            raise
        return cls(folder, submission, lock, disk)

    def close(self) -> None:
        """Let another process have it; a second call does nothing."""
        self._lock.release()

    async def change(self, step: Callable[[Submission], Submission]) -> Submission:
        """Write the state that ``step`` makes of the current one, durably, and return it.

        Coroutines take turns; a step that changes nothing writes nothing.

        Raises:
            StorageError: Either state may be on disk; ``submission`` stays the one before.
        """
        async with self._writing:
            changed = step(self.submission)
            if changed != self.submission:
                await finish(asyncio.to_thread(self._write, changed))
                self.submission = changed
            return changed

    def seal(self, step: Callable[[Submission], Submission]) -> None:
        """As ``change``, blocking, and once: the new state is also kept as ``sealed.json``."""
        changed = step(self.submission)
        # The copy first: once the journal says sealed, there is something to recover from.
        write_atomically(self.folder.sealed, encode_journal(changed), disk=self.disk)
        self._write(changed)
        self.submission = changed

    def _write(self, submission: Submission) -> None:
        # A crash in here leaves the state before or after, whole, and perhaps a temporary file.
        write_atomically(self.folder.journal, encode_journal(submission), disk=self.disk)


def _take(folder: Folder) -> FileLock:
    try:
        lock = FileLock.take(folder.lock, what=f"submission {folder.id}")
    except UnavailableError as exc:
        raise messages.submission_in_use(folder.id, exc) from exc
    # Nobody else writes here now, so what is temporary is of somebody who was killed.
    sweep_folder(folder.path)
    return lock
