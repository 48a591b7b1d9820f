"""What an open ledger consists of, between opening and closing."""

from __future__ import annotations

from dataclasses import dataclass

from bistro.ledger.index import DuplicateIndex
from bistro.ledger.publishing import KeyOf, Publisher
from bistro.ledger.view import View
from bistro.ledger.wal import WriteAheadFile
from bistro.storage.locks import FileLock


@dataclass
class Parts:
    """What an open ledger consists of.

    Attributes:
        keys: Keys of entries that the index does not hold yet.
        key_of: Makes the key of an entry anew, where the owner knows how.
    """

    lock: FileLock
    wal: WriteAheadFile
    index: DuplicateIndex
    publisher: Publisher
    view: View
    keys: dict[bytes, int]
    key_of: KeyOf | None

    def trim(self) -> None:
        """Publish what is complete, and drop it from memory; blocks."""
        done = self.publisher.publish(self.view)
        self.view = self.view.trimmed(done.published, done.edges)
        for key in done.keys:
            self.keys.pop(key, None)

    def close(self) -> None:
        """Give everything back, the lock last."""
        self.wal.close()
        self.index.close()
        self.lock.release()
