"""What strace wrote, as system calls: when each began, when it returned, what it carried.

Understands the output of ``strace -f -xx`` with whole strings: a line a call, or two where
another thread came in between. The order of the lines is the order in which things happened
as far as one caused the other: a thread that strace holds at the end of a call causes nothing.

Processes that the traced one has started are left out: they have descriptors of their own, and
none of ours changes a file that lasts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

CHANGES: Final = (
    *("openat", "open", "creat", "close", "dup", "dup2", "dup3", "fcntl", "lseek"),
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate"),
    *("fdatasync", "fsync", "sync_file_range", "sync", "syncfs"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *("link", "linkat", "symlink", "symlinkat", "copy_file_range", "sendfile", "chdir"),
)
"""Calls that change files, or say what a descriptor means."""

SENDS: Final = ("write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile")
"""Calls that can carry an answer."""

STARTS: Final = ("clone", "clone3", "fork", "vfork")
"""Calls that start a thread, or another process."""

_LINE = re.compile(r"(\d+) +(?:(\d+\.\d+) )?(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)", re.DOTALL)
_CALL = re.compile(r"(\w+)\((.*)", re.DOTALL)
_RETURNED = re.compile(r"(.*)\) += (-?\d+|0x[0-9a-f]+|\?)(.*)", re.DOTALL)
_STRING = re.compile(r'"([^"]*)"(\.\.\.)?')
_SOCKET: Final = re.compile(r',"[^"]*"(?=\]>)')
"""The path of a Unix socket, beside the descriptor."""
_STARTED: Final = re.compile(
    rf"(\d+) +(?:\d+\.\d+ )?(?:<\.\.\. )?(?:{'|'.join(STARTS)})\b(.*)\) += (\d+)"
)
_THREAD: Final = "CLONE_THREAD"
_UNFINISHED: Final = " <unfinished ...>"
_DETACHED: Final = " <detached ...>"
_UNIX: Final = "<UNIX"


@dataclass(slots=True)
class Call:
    """A system call.

    Attributes:
        pid: The thread that made it.
        name: Which call.
        arguments: As strace wrote them, strings in hexadecimal.
        began: Position of its beginning among all events.
        ended: Position of its return; ``None``: it never returned.
        result: What it returned; ``None`` if it did not.
    """

    pid: int
    name: str
    arguments: str
    began: int
    ended: int | None = None
    result: int | None = None
    _strings: list[bytes] | None = None

    def strings(self) -> list[bytes]:
        """The strings among the arguments, in order; to be asked for once all are known.

        Raises:
            ValueError: One was cut short: strace has to be given a larger ``-s``.
        """
        if self._strings is None:
            self._strings = []
            for match in _STRING.finditer(self.arguments):
                if match[2]:
                    raise ValueError(f"{self.name}: strace has cut a string short")
                self._strings.append(_decode(match[1]))
        return self._strings

    def words(self) -> list[str]:
        """The arguments, strings left out, split at commas."""
        return [word.strip() for word in _STRING.sub('""', self.arguments).split(",")]

    def fd(self, at: int = 0) -> int:
        """The descriptor that stands at an argument."""
        return int(self.words()[at].split("<", 1)[0])


@dataclass(frozen=True, slots=True)
class Event:
    """That a call began, or returned.

    Attributes:
        at: Its position.
        call: Which; known to its end even where it begins.
        is_end: Whether it returned.
        time_ms: When it was written down, milliseconds since 1970 by the system's clock; 0 if
            strace was not asked to say so.
    """

    at: int
    call: Call
    is_end: bool
    time_ms: int = 0


def _decode(text: str) -> bytes:
    r"""The bytes that are written as ``\x41`` each."""
    codes = text.encode("ascii")
    digits = bytearray(len(codes) // 2)
    digits[0::2], digits[1::2] = codes[2::4], codes[3::4]
    return bytes.fromhex(digits.decode("ascii"))


def read_events(lines: Iterable[str]) -> list[Event]:
    """All events of the process that was traced first, in order."""
    known = list(lines)
    others = _others(known)
    return list(_events(line for line in known if line.partition(" ")[0] not in others))


def _others(lines: Sequence[str]) -> set[str]:
    """Numbers of all threads of processes that another one has started."""
    others: set[str] = set()
    started: list[tuple[str, str, bool]] = []
    flags: dict[str, str] = {}
    for line in lines:
        if not any(name in line for name in STARTS):
            continue
        pid = line.partition(" ")[0]
        if line.rstrip().endswith(_UNFINISHED):
            flags[pid] = line
        elif match := _STARTED.match(line):
            is_thread = _THREAD in flags.pop(pid, "") + match[2]
            started.append((match[1], match[3], is_thread))
    for parent, child, is_thread in started:
        if not is_thread or parent in others:
            others.add(child)
    return others


def _events(lines: Iterable[str]) -> Iterator[Event]:
    begun: dict[int, Call] = {}
    at = 0
    for line in lines:
        match = _LINE.fullmatch(line.rstrip("\n"))
        if match is None or match[3].startswith(("+++", "---")):
            continue
        time_ms = int(float(match[2] or 0) * 1_000)
        text = _SOCKET.sub("", match[3], count=1) if _UNIX in match[3] else match[3]
        found = _begun(int(match[1]), text, at, begun)
        if found is None:
            continue
        call, rest = found
        if call.began == at:
            yield Event(at, call, is_end=False, time_ms=time_ms)
            at += 1
        if rest.endswith(_UNFINISHED):
            call.arguments += rest.removesuffix(_UNFINISHED)
            begun[call.pid] = call
            continue
        # A process that was killed while strace held it.
        rest = rest.removesuffix(_DETACHED)
        returned = _RETURNED.fullmatch(rest)
        call.arguments += returned[1] if returned else rest
        if returned and returned[2] != "?":
            call.ended, call.result = at, int(returned[2], 0)
            yield Event(at, call, is_end=True, time_ms=time_ms)
            at += 1


def _begun(pid: int, text: str, at: int, begun: dict[int, Call]) -> tuple[Call, str] | None:
    """The call that a line is about, new at ``at`` or begun before, and the rest of the line."""
    resumed = _RESUMED.fullmatch(text)
    if resumed:
        call = begun.pop(pid, None)
        return None if call is None else (call, resumed[1])
    opened = _CALL.fullmatch(text)
    return None if opened is None else (Call(pid, opened[1], "", at), opened[2])
