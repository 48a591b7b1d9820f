"""A disk on paper: which bytes and names are durable at a moment, and which only may be.

Fed with the calls of a trace, it knows of every file what the last ``fdatasync`` or ``fsync``
that returned has made durable, and which changes came later; of every folder the same about
names. A power cut keeps any of the later ones: of a write any of its 512-byte sectors, of a
folder any of its changes. That is more than real file systems do (ext4 keeps names in order,
and those of a synced new file), so who survives it does not depend on one of them.

What is mapped into memory is not seen: ``differences`` says whether the trace explains all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.crash.traces import Call

SECTOR: Final = 512
SHARED_MEMORY: Final = "-shm"
"""Files of SQLite with this ending are mapped and made anew: no disk keeps them."""

Keeps = Callable[["Change"], bool]
"""Whether a change that is not durable lasts all the same."""


@dataclass(slots=True, eq=False)
class Change:
    """What a call changed, not durable yet.

    Attributes:
        call: Which call.
        data: What was written; ``None``: the length was changed.
        offset: Where, or the new length.
        name: Of a change of a folder: whose name.
        node: Of a change of a folder: what the name stands for now; ``None``: nothing.
        is_doomed: Whether a sync that covered it has failed: no later one makes it durable.
    """

    call: Call
    data: bytes | None = None
    offset: int = 0
    name: str = ""
    node: File | Folder | None = None
    is_doomed: bool = False

    def sectors(self) -> Iterator[Change]:
        """The parts that last or are lost by themselves."""
        if self.data is None:
            yield self
            return
        at, end = self.offset, self.offset + len(self.data)
        while at < end:
            stop = min((at // SECTOR + 1) * SECTOR, end)
            part = self.data[at - self.offset : stop - self.offset]
            yield Change(self.call, part, at, is_doomed=self.is_doomed)
            at = stop

    def beside(self, newer: Change) -> list[Change]:
        """What a newer change of the same file leaves of this one, if it is doomed."""
        if not self.is_doomed:
            return [self]
        if self.data is None:
            return []
        end = self.offset + len(self.data)
        stop = newer.offset + len(newer.data) if newer.data is not None else end
        before = self.data[: max(0, newer.offset - self.offset)]
        after = self.data[max(0, stop - self.offset) :]
        return [
            Change(self.call, part, offset, is_doomed=True)
            for part, offset in ((before, self.offset), (after, max(stop, self.offset)))
            if part
        ]

    def apply(self, content: bytearray) -> None:
        """Change a file's content."""
        if self.data is None:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))
        else:
            content.extend(bytes(max(0, self.offset - len(content))))
            content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(slots=True, eq=False)
class File:
    """A file, whatever its names.

    Attributes:
        source: Where its durable content lies, while nothing has changed it.
        changes: Those that are not durable.
    """

    source: Path | None = None
    changes: list[Change] = field(default_factory=list)
    _content: bytearray | None = None

    @property
    def content(self) -> bytearray:
        """What is durable."""
        if self._content is None:
            self._content = bytearray(b"" if self.source is None else self.source.read_bytes())
        return self._content

    def settle(self, done: list[Change]) -> None:
        """These changes are durable now; what is doomed and older lies below them."""
        for change in done:
            if change in self.changes:
                at = self.changes.index(change)
                self.changes[: at + 1] = [
                    part for older in self.changes[:at] for part in older.beside(change)
                ]
                change.apply(self.content)

    def read(self, keeps: Keeps | None = None, *, has_size: bool = False) -> bytes:
        """What a reader finds: of the changes all, or those that ``keeps`` says.

        Args:
            keeps: Chooses.
            has_size: Whether the newest length lasts, with zeros for what is lost.
        """
        found = bytearray(self.content)
        for change in self.changes:
            for part in change.sectors():
                if keeps is None or keeps(part):
                    part.apply(found)
        if has_size and keeps is not None:
            found.extend(bytes(max(0, len(self.read()) - len(found))))
        return bytes(found)

    @property
    def is_untouched(self) -> bool:
        """Whether it is still what lies at ``source``."""
        return self.source is not None and self._content is None and not self.changes


@dataclass(slots=True, eq=False)
class Folder:
    """A folder.

    Attributes:
        names: What is in it now.
        durable: What is durably in it.
        changes: The difference, in order.
    """

    names: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def change(self, call: Call, name: str, node: File | Folder | None) -> None:
        """Give a name to something, or to nothing."""
        self.changes.append(Change(call, name=name, node=node))
        _put(self.names, name, node)

    def settle(self, done: list[Change]) -> None:
        """These changes are durable now."""
        for change in done:
            if change in self.changes:
                self.changes.remove(change)
                _put(self.durable, change.name, change.node)

    def after(self, keeps: Keeps) -> dict[str, File | Folder]:
        """What a cut leaves in it."""
        found = dict(self.durable)
        for change in self.changes:
            if keeps(change):
                _put(found, change.name, change.node)
        return found


def _put(names: dict[str, File | Folder], name: str, node: File | Folder | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def scan(path: Path) -> Folder:
    """The folder at ``path`` as it lies there, all of it durable."""
    names: dict[str, File | Folder] = {}
    with os.scandir(path) as found:
        for one in found:
            if one.is_dir(follow_symlinks=False):
                names[one.name] = scan(Path(one.path))
            elif one.is_file(follow_symlinks=False) and not one.name.endswith(SHARED_MEMORY):
                names[one.name] = File(Path(one.path))
    return Folder(names, dict(names))


def adopt(folder: Folder, real: Path) -> None:
    """Let ``folder`` be what lies at ``real``: the rest of what a killed call has done."""
    here, call = scan(real), Call(0, "killed", "", 0)
    for name in folder.names.keys() - here.names.keys():
        if not name.endswith(SHARED_MEMORY):
            folder.change(call, name, None)
    for name, other in here.names.items():
        node = folder.names.get(name)
        if node is None:
            folder.change(call, name, other)
        elif isinstance(node, Folder):
            adopt(node, real / name)
        elif isinstance(other, File) and node.read() != (content := bytes(other.content)):
            node.changes += [Change(call, offset=len(content)), Change(call, content)]


def write_out(folder: Folder, target: Path, keeps: Keeps, sizes: Callable[[], bool]) -> None:
    """Make ``target`` what a power cut leaves.

    Args:
        folder: At the moment of the cut.
        target: Does not exist.
        keeps: Which changes last.
        sizes: Asked for every file whether its newest length lasts.
    """
    target.mkdir(mode=0o700)
    for name, node in folder.after(keeps).items():
        path = target / name
        if name.endswith(SHARED_MEMORY):
            continue
        if isinstance(node, Folder):
            write_out(node, path, keeps, sizes)
        elif node.is_untouched and node.source is not None:
            shutil.copyfile(node.source, path)
        else:
            path.write_bytes(node.read(keeps, has_size=sizes()))


def differences(folder: Folder, real: Path, uncertain: set[int]) -> list[str]:
    """Where ``real`` is not what the trace says; empty if the trace explains everything.

    Args:
        folder: At the end of the trace.
        real: The folder that was traced.
        uncertain: Ids of files and folders that a call was changing when it was killed.
    """
    found = []
    here = scan(real)
    expected = {name for name in folder.names if not name.endswith(SHARED_MEMORY)}
    if here.names.keys() != expected and id(folder) not in uncertain:
        names = sorted(here.names.keys() ^ expected)
        found.append(f"{real}: either there or in the trace, not in both: {names}")
    for name in here.names.keys() & folder.names.keys():
        node, other = folder.names[name], here.names[name]
        if isinstance(node, Folder) and isinstance(other, Folder):
            found += differences(node, real / name, uncertain)
        elif isinstance(node, File) and isinstance(other, File):
            if id(node) not in uncertain and node.read() != other.read():
                found.append(f"{real / name}: its content is not what was written")
        else:
            found.append(f"{real / name}: a file and a folder")
    return found
