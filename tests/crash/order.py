"""Whether any answer left before what it promises was durable, as the kernel saw it.

For every promise that is sent to a client, three events are looked for in the trace: the write
that contains its entry has returned; a sync of the same file began after that, and has returned
without an error; only then the call that sends the promise may begin. strace holds each thread
at the end of each call, so an answer that a sync has caused is seen after that sync.

Source: docs/spec/ticketing.md, the batch; docs/spec/storage.md, rule 1.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.traces import Call, Event

_EXTRA = re.compile(rb"\nextra ([A-Za-z0-9+/]+=*)\n")
_HEADER = re.compile(rb"\r\nBistro-Receipt: ([A-Za-z0-9+/]+=*)\r\n")
_ANY = re.compile(rb"bistro/")
_ENTRY = re.compile(
    rb"bistro/[a-z]+/v1\n[^\n]{1,300}\n[1-9][0-9]*\nsha256:[0-9a-f]{64}\n"
    rb"(?:[a-z-]+ [^\n\0]{1,120}\n)*"
)
_WRITES = frozenset({"write", "writev", "pwrite64", "pwritev", "pwritev2"})
_SENDS = frozenset({"write", "writev", "sendto", "sendmsg"})
_SYNCS = frozenset({"fdatasync", "fsync"})
_STREAMS = ("TCP", "UNIX-STREAM")
"""Where answers go: to clients, or to the workers that pass them on."""
_LONGEST = 8_192
"""No line of a promise is longer."""


@dataclass
class OrderFindings:
    """What a trace shows.

    Attributes:
        promises: How many promises were sent to clients.
        syncs: How many syncs made entries durable.
        early: Entries of promises that were sent before they were durable.
    """

    promises: int = 0
    syncs: int = 0
    early: list[bytes] = field(default_factory=list)


def entries_in(folder: Path) -> set[bytes]:
    """Every entry that stands somewhere in the files of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {entry for path in files for entry in _ENTRY.findall(path.read_bytes())}


def examine(
    events: Sequence[Event], earlier: set[bytes], own: re.Pattern[bytes] = _ANY
) -> OrderFindings:
    """Look at every promise that left in a trace; its strings are whole, ``-yy`` names files.

    Args:
        events: The trace.
        earlier: Entries that were there before: promises of them are not looked at.
        own: What entries of the service begin with: it may pass on promises of others.
    """
    order = _Order(earlier, own)
    for event in events:
        order.take(event)
    return order.findings


def _file(call: Call) -> str:
    """What the first argument stands for, as ``-yy`` says it."""
    return call.arguments.partition(",")[0].partition("<")[2].rstrip().removesuffix(">")


def _written(event: Event) -> list[bytes]:
    """The entries that a call which has returned has written to a file."""
    call = event.call
    if not event.is_end or call.name not in _WRITES or (call.result or 0) <= 0:
        return []
    if _file(call).startswith(_STREAMS):
        return []
    return _ENTRY.findall(b"".join(call.strings())[: call.result])


@dataclass
class _Order:
    """What has happened so far.

    Attributes:
        earlier: Entries that are not looked at.
        own: What others begin with.
    """

    earlier: set[bytes]
    own: re.Pattern[bytes]
    findings: OrderFindings = field(default_factory=OrderFindings)
    _durable: set[bytes] = field(default_factory=set)
    _waiting: dict[str, set[bytes]] = field(default_factory=dict)
    _covered: dict[int, set[bytes]] = field(default_factory=dict)
    _streams: dict[str, bytes] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """The next event."""
        call = event.call
        if call.name in _SENDS and not event.is_end:
            self._send(call)
        if entries := _written(event):
            self._waiting.setdefault(_file(call), set()).update(entries)
        if call.name in _SYNCS and not event.is_end:
            self._covered[id(call)] = set(self._waiting.get(_file(call), ()))
        elif call.name in _SYNCS and call.result == 0:
            done = self._covered.pop(id(call), set())
            self.findings.syncs += bool(done - self._durable)
            self._durable |= done
            self._waiting.get(_file(call), set()).difference_update(done)

    def _send(self, call: Call) -> None:
        """Look for promises in what is sent; the rest may be continued by the next call."""
        stream = _file(call)
        if not stream.startswith(_STREAMS):
            return
        data, end = self._streams.get(stream, b"") + b"".join(call.strings()), 0
        for match in _EXTRA.finditer(data):
            end = match.end() - 1
            self._look_at(base64.b64decode(match[1]))
        for match in _HEADER.finditer(data):
            end = max(end, match.end() - 2)
            for inner in _EXTRA.finditer(base64.b64decode(match[1])):
                self._look_at(base64.b64decode(inner[1]))
        self._streams[stream] = data[end:][-_LONGEST:]

    def _look_at(self, entry: bytes) -> None:
        if entry not in self.earlier and self.own.match(entry):
            self.findings.promises += 1
            if entry not in self._durable:
                self.findings.early.append(entry)
