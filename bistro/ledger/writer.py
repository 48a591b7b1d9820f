"""A thread that writes records, so that the event loop never waits for the disk.

Its own thread with its own queue: a sync must not wait behind others' reads in a shared pool,
and handing over a record must cost next to nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

from bistro.errors import BistroError, StorageError
from bistro.ledger.wal import WriteAheadFile

Done = Callable[[BaseException | None], None]
"""Told in the event loop when a record is durable, or why it is not."""


class WalWriter:
    """Appends records in the order in which they are submitted, one sync each.

    Made inside the event loop that hears the results.

    Args:
        wal: Settled; nobody else appends to it.
    """

    def __init__(self, wal: WriteAheadFile) -> None:
        self._wal = wal
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[tuple[bytes, int, Done] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def submit(self, record: bytes, start: int, done: Done) -> None:
        """Let a record be written; ``done`` is called once, in the loop.

        It hears ``None`` once the record is durable. ``UnavailableError`` means that nothing
        was written and the file goes on; any other error that the record may or may not last
        and the file has stopped: what was submitted behind it fails too.

        Args:
            record: The encoded record.
            start: Index of its first entry.
            done: Told the result.
        """
        self._queue.put((record, start, done))

    def write(self, record: bytes, start: int) -> asyncio.Future[None]:
        """As ``submit``; done when the record is durable.

        Its errors are ``UnavailableError``, the disk is full and nothing was written, and
        ``StorageError``, the record may or may not last and the file has stopped.
        """
        done = self._loop.create_future()

        def tell(failure: BaseException | None) -> None:
            if done.done():
                return
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)

        self.submit(record, start, tell)
        return done

    def _run(self) -> None:
        write: Callable[[bytes, int], None] = self._wal.append
        while (job := self._queue.get()) is not None:
            record, start, done = job
            failure: BaseException | None = None
            try:
                write(record, start)
            except BistroError as exc:
                failure = exc
            except BaseException as exc:
                # A fault of our own. The thread goes on, so that nobody waits for ever.
                failure = exc
                write = self._refuse
                if not self._loop.is_running():
                    raise
            self._loop.call_soon_threadsafe(done, failure)

    def _refuse(self, _: bytes, start: int) -> None:
        raise StorageError(f"{self._wal.directory}: stopped before entry {start}")

    def close(self) -> None:
        """End the thread once it has written all that was submitted; blocks; idempotent."""
        self._queue.put(None)
        self._thread.join()
