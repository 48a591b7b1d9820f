"""What strace wrote, as system calls: when each began, when it returned, what it carried.

Understands the output of ``strace -f -xx`` with whole strings: a line a call, or two where
another thread came in between. The order of the lines is the order in which things happened
as far as one caused the other: a thread that strace holds at the end of a call causes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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

_LINE = re.compile(r"(\d+) +(?:(\d+\.\d+) )?(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)", re.DOTALL)
_CALL = re.compile(r"(\w+)\((.*)", re.DOTALL)
_RETURNED = re.compile(r"(.*)\) += (-?\d+|0x[0-9a-f]+|\?)(.*)", re.DOTALL)
_STRING = re.compile(r'"([^"]*)"(\.\.\.)?')
_UNFINISHED: Final = " <unfinished ...>"
_DETACHED: Final = " <detached ...>"


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
    """

    at: int
    call: Call
    is_end: bool


def _decode(text: str) -> bytes:
    r"""The bytes that are written as ``\x41`` each."""
    codes = text.encode("ascii")
    digits = bytearray(len(codes) // 2)
    digits[0::2], digits[1::2] = codes[2::4], codes[3::4]
    return bytes.fromhex(digits.decode("ascii"))


def read_events(lines: Iterable[str]) -> list[Event]:
    """All events, in order."""
    return list(_events(lines))


def _events(lines: Iterable[str]) -> Iterator[Event]:
    begun: dict[int, Call] = {}
    at = 0
    for line in lines:
        match = _LINE.fullmatch(line.rstrip("\n"))
        if match is None or match[3].startswith(("+++", "---")):
            continue
        pid, text = int(match[1]), match[3]
        resumed = _RESUMED.fullmatch(text)
        if resumed:
            call = begun.pop(pid, None)
            if call is None:
                continue
            rest = resumed[1]
        else:
            opened = _CALL.fullmatch(text)
            if opened is None:
                continue
            call = Call(pid, opened[1], "", at)
            rest = opened[2]
            yield Event(at, call, is_end=False)
            at += 1
        if rest.endswith(_UNFINISHED):
            call.arguments += rest.removesuffix(_UNFINISHED)
            begun[pid] = call
            continue
        # A process that was killed while strace held it.
        rest = rest.removesuffix(_DETACHED)
        returned = _RETURNED.fullmatch(rest)
        call.arguments += returned[1] if returned else rest
        if returned and returned[2] != "?":
            call.ended, call.result = at, int(returned[2], 0)
            yield Event(at, call, is_end=True)
            at += 1
