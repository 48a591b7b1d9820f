"""Feeds a trace to a ``medium``: what every call means for files, names and durability.

A change counts from when its call begins, as the disk may have it at once; it can be durable
only through a sync that began after the change's call had returned, once that sync returned.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.crash.medium import Change, File, Folder
from tests.crash.traces import Call, Event

_KEEP_SIZE: Final = "FALLOC_FL_KEEP_SIZE"
_UNKNOWN: Final = frozenset(
    {"link", "linkat", "symlink", "symlinkat", "copy_file_range", "sync", "syncfs", "truncate"}
)


class UnexplainedError(Exception):
    """A trace has a call that this does not understand: teach it."""


@dataclass(slots=True)
class _Open:
    """An open file description.

    Attributes:
        offset: Where ``write`` writes.
        is_synced: Whether every write is durable when it returns (``O_DSYNC``, ``O_SYNC``).
    """

    node: File | Folder
    offset: int = 0
    appends: bool = False
    is_synced: bool = False


@dataclass
class Replay:
    """A folder while the calls of a trace change it.

    Attributes:
        path: Where the traced process saw it.
        folder: What is in it.
        uncertain: Ids of nodes that a call which never returned may have changed.
    """

    path: Path
    folder: Folder
    uncertain: set[int] = field(default_factory=set)
    _open: dict[int, _Open] = field(default_factory=dict)
    _changes: dict[int, Change] = field(default_factory=dict)
    _covered: dict[int, tuple[File | Folder, list[Change]]] = field(default_factory=dict)
    _closing: dict[int, _Open] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """The next event.

        Raises:
            UnexplainedError: Its meaning for the folder is not known here.
        """
        call = event.call
        handlers = _ENDS if event.is_end else _BEGINNINGS
        handler = handlers.get(call.name)
        if handler is not None:
            handler(self, call)
        elif call.name in _UNKNOWN and str(self.path).encode() in b"".join(call.strings()):
            raise UnexplainedError(f"{call.name}({call.arguments[:200]})")

    # --- names ---

    def _find(self, path: bytes, at_fd: str = "AT_FDCWD") -> tuple[Folder, str] | None:
        """The folder that holds a path, and the name in it; ``None``: elsewhere."""
        text = os.fsdecode(path)
        node: File | Folder | None = self.folder
        if text.startswith("/"):
            try:
                parts = Path(os.path.normpath(text)).relative_to(self.path).parts
            except ValueError:
                return None
        elif at_fd.startswith("AT_FDCWD"):
            return None  # our programs are given absolute paths
        else:
            held = self._open.get(int(at_fd.split("<", 1)[0]))
            if held is None or not isinstance(held.node, Folder):
                return None
            node, parts = held.node, Path(text).parts
        if not parts:
            return Folder({"": self.folder}), ""
        for part in parts[:-1]:
            node = node.names.get(part) if isinstance(node, Folder) else None
        return (node, parts[-1]) if isinstance(node, Folder) else None

    def _opened(self, call: Call) -> None:
        if call.result is None or call.result < 0:
            return
        words = call.words()
        at_fd = words[0] if call.name == "openat" else "AT_FDCWD"
        flags = next((word for word in words if word.startswith("O_")), "O_CREAT|O_TRUNC")
        self._open.pop(call.result, None)
        place = self._find(call.strings()[0], at_fd)
        if place is None:
            return
        folder, name = place
        node = folder.names.get(name)
        if node is None:
            if "O_CREAT" not in flags:
                return  # a socket, or a file that is mapped
            node = File()
            folder.change(call, name, node)
        if isinstance(node, File) and "O_TRUNC" in flags:
            node.changes.append(Change(call))
        self._open[call.result] = _Open(
            node, appends="O_APPEND" in flags, is_synced="O_DSYNC" in flags or "O_SYNC" in flags
        )

    def _renamed(self, call: Call) -> None:
        if call.result != 0:
            return
        words, names = call.words(), call.strings()
        at = ("AT_FDCWD", "AT_FDCWD") if call.name == "rename" else (words[0], words[2])
        source, target = self._find(names[0], at[0]), self._find(names[1], at[1])
        if source is None or target is None:
            return
        node = source[0].names.get(source[1])
        if node is not None:
            # Two changes of one call: a cut keeps both or neither.
            target[0].change(call, target[1], node)
            source[0].change(call, source[1], None)

    def _removed(self, call: Call) -> None:
        if call.result != 0:
            return
        at = call.words()[0] if call.name == "unlinkat" else "AT_FDCWD"
        place = self._find(call.strings()[0], at)
        if place is not None and place[1] in place[0].names:
            place[0].change(call, place[1], None)

    def _made(self, call: Call) -> None:
        if call.result != 0:
            return
        at = call.words()[0] if call.name == "mkdirat" else "AT_FDCWD"
        place = self._find(call.strings()[0], at)
        if place is not None:
            place[0].change(call, place[1], Folder())

    def _naming(self, call: Call) -> None:
        """A call that changes names begins; if it never returns, nobody knows them."""
        if call.ended is None:
            for path in call.strings():
                place = self._find(path)
                if place is not None:
                    self.uncertain.add(id(place[0]))
                    self.uncertain.add(id(place[0].names.get(place[1])))

    # --- descriptors ---

    def _closing_fd(self, call: Call) -> None:
        # At its beginning: another thread may be given the number before this one returns.
        held = self._open.pop(call.fd(), None)
        if held is not None:
            self._closing[id(call)] = held

    def _closed(self, call: Call) -> None:
        held = self._closing.pop(id(call), None)
        if held is not None and call.result != 0:
            self._open.setdefault(call.fd(), held)

    def _duplicated(self, call: Call) -> None:
        is_dup = call.name != "fcntl" or "F_DUPFD" in call.arguments
        if is_dup and call.result is not None and call.result >= 0:
            self._open.pop(call.result, None)
            if call.fd() in self._open:
                self._open[call.result] = self._open[call.fd()]

    def _sought(self, call: Call) -> None:
        held = self._open.get(call.fd())
        if held is not None and call.result is not None and call.result >= 0:
            held.offset = call.result

    # --- content ---

    def _writing(self, call: Call) -> None:
        held = self._open.get(call.fd())
        if held is None or not isinstance(held.node, File):
            return
        data = b"".join(call.strings())
        if call.name in {"write", "writev"}:
            offset = len(held.node.read()) if held.appends else held.offset
        else:
            offset = int(call.words()[-2 if call.name == "pwritev2" else -1])
        self._begin(call, held.node, Change(call, data, offset))

    def _begin(self, call: Call, node: File, change: Change) -> None:
        node.changes.append(change)
        self._changes[id(call)] = change
        if call.ended is None:
            self.uncertain.add(id(node))

    def _written(self, call: Call) -> None:
        change = self._changes.pop(id(call), None)
        held = self._open.get(call.fd())
        if change is None or held is None or not isinstance(held.node, File):
            return
        if call.result is None or call.result < 0:
            held.node.changes.remove(change)
            return
        change.data = (change.data or b"")[: call.result]
        if call.name in {"write", "writev"}:
            held.offset = change.offset + call.result
        if held.is_synced or "RWF_DSYNC" in call.arguments or "RWF_SYNC" in call.arguments:
            held.node.settle([change])

    def _resizing(self, call: Call) -> None:
        held = self._open.get(call.fd())
        if held is None or not isinstance(held.node, File):
            return
        numbers = [int(word) for word in call.words()[1:] if word.isdigit()]
        if call.name == "ftruncate":
            self._begin(call, held.node, Change(call, offset=numbers[0]))
        elif _KEEP_SIZE not in call.arguments:
            end = numbers[-2] + numbers[-1]
            if "FALLOC_FL" in call.arguments:
                raise UnexplainedError(f"fallocate({call.arguments[:200]})")
            if end > len(held.node.read()):
                self._begin(call, held.node, Change(call, offset=end))

    def _resized(self, call: Call) -> None:
        change = self._changes.pop(id(call), None)
        held = self._open.get(call.fd())
        if change is not None and call.result != 0 and held and isinstance(held.node, File):
            held.node.changes.remove(change)

    # --- durability ---

    def _syncing(self, call: Call) -> None:
        held = self._open.get(call.fd())
        if held is not None:
            done = [
                change
                for change in held.node.changes
                if id(change.call) not in self._changes and not change.is_doomed
            ]
            self._covered[id(call)] = (held.node, done)

    def _synced(self, call: Call) -> None:
        node, done = self._covered.pop(id(call), (None, []))
        if node is not None and call.result == 0:
            node.settle(done)
        elif isinstance(node, File):
            for change in done:
                change.is_doomed = True


_Handler = Callable[[Replay, Call], None]
_NAMING: Final = ("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat")
_WRITES: Final = ("write", "writev", "pwrite64", "pwritev", "pwritev2")
_BEGINNINGS: Final[dict[str, _Handler]] = {
    **dict.fromkeys(("open", "openat", "creat", "rmdir", *_NAMING), Replay._naming),
    "close": Replay._closing_fd,
    **dict.fromkeys(_WRITES, Replay._writing),
    **dict.fromkeys(("ftruncate", "fallocate"), Replay._resizing),
    **dict.fromkeys(("fdatasync", "fsync"), Replay._syncing),
}
_ENDS: Final[dict[str, _Handler]] = {
    **dict.fromkeys(("open", "openat", "creat"), Replay._opened),
    **dict.fromkeys(("rename", "renameat", "renameat2"), Replay._renamed),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), Replay._removed),
    **dict.fromkeys(("mkdir", "mkdirat"), Replay._made),
    "close": Replay._closed,
    **dict.fromkeys(("dup", "dup2", "dup3", "fcntl"), Replay._duplicated),
    "lseek": Replay._sought,
    **dict.fromkeys(_WRITES, Replay._written),
    **dict.fromkeys(("ftruncate", "fallocate"), Replay._resized),
    **dict.fromkeys(("fdatasync", "fsync"), Replay._synced),
}
