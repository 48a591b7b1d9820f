"""Services that break their word, so that the campaign can be seen to notice.

Each replaces something in the process that it is called in, before the program runs. Run as
``python -m tests.crash.sabotage NAME PROGRAM ARGUMENT …`` it is a program of its own.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_LATE_S: Final = 0.25
_STEP: Final = 4_096
_YEARS_MS: Final = 2 * 365 * 86_400_000


def never_sync() -> None:
    """Nothing is ever synced: a power cut loses what was answered."""
    os.fdatasync = os.fsync = lambda fd: None


def sync_late() -> None:
    """Files are synced, but a moment after the call has returned."""
    sync = os.fdatasync

    def later(fd: int) -> None:
        time.sleep(_LATE_S)
        sync(fd)
        os.close(fd)

    def fdatasync(fd: Any) -> None:
        number = fd if isinstance(fd, int) else fd.fileno()
        threading.Thread(target=later, args=(os.dup(number),), daemon=True).start()

    os.fdatasync = fdatasync


def restore_old_copy() -> None:
    """Every start but the first begins with the folder as the first one found it."""
    folder = Path(sys.argv[sys.argv.index("--dir") + 1])
    copy = folder.with_name(f"{folder.name}.copy")
    if not copy.exists():
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.sock"))
        return
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)


def flip_bits() -> None:
    """At every start one bit in each 4 KiB of a relay's fragments is another."""
    folder = Path(sys.argv[sys.argv.index("--dir") + 1])
    for path in (folder / "segments").rglob("*.segment"):
        data = bytearray(path.read_bytes())
        for at in range(_STEP - 1, len(data), _STEP):
            data[at] ^= bool(data[at])
        path.write_bytes(data)


def release_unrecorded() -> None:
    """A relay lets fragments go without an entry that says so."""
    ledgers = importlib.import_module("bistro_relay.services.ledgers")
    append = ledgers.CustodyLedger.append

    async def append_others(ledger: Any, *drafts: Any) -> Any:
        kept = [one for one in drafts if not one.key.startswith(b"d")]
        return await append(ledger, *kept) if kept else []

    ledgers.CustodyLedger.append = append_others


def expire_early() -> None:
    """A relay takes holds for over that are not, by two years."""
    uploads = importlib.import_module("bistro_relay.store.uploads").UploadStore
    transfer = importlib.import_module("bistro.protocol.transfer").Transfer
    list_expired, expire = uploads.list_expired, transfer.expire
    uploads.list_expired = lambda store, now: list_expired(store, now + _YEARS_MS)
    transfer.expire = lambda one, now: expire(one, now + _YEARS_MS)


SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    "never-sync": never_sync,
    "sync-late": sync_late,
    "restore-old-copy": restore_old_copy,
    "flip-bits": flip_bits,
    "release-unrecorded": release_unrecorded,
    "expire-early": expire_early,
}


def main() -> None:
    """Sabotage this process, then be the program."""
    name, program, *arguments = sys.argv[1:]
    sys.argv = [program, *arguments]
    SABOTAGES[name]()
    module, _, function = program.partition(":")
    getattr(importlib.import_module(module), function)()


if __name__ == "__main__":
    main()
