"""Openings: who asks for them, what everybody sees of them, and whether it stays so.

| promise | what is compared |
|---|---|
| last | the ``opening`` entry is the log's last and only one, behind ``closed``, not too early |
| it stays | proof of that entry, minutes and outcome notes are served as they were served before |
| everybody | the minutes count all tickets; their root follows from the outcomes |
| it ends | after any death ``open`` ends like one that nobody disturbed; once more: no change |

Source: docs/spec/opening.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random  # noqa: TID251 - passed in, seeded
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.api import routes
from bistro.clock import SystemClock
from bistro.errors import BistroError, NotOpenError
from bistro.wire.header import NO_TOKEN
from bistro.wire.minutes import MinutesEntry, salted_outcome, verify_minutes
from bistro.wire.proof import Proof
from bistro.wire.terms import Terms
from bistro_server.services.calls import CallRegistry
from bistro_server.services.control import ControlClient
from bistro_server.services.folder import ServerFolder
from bistro_server.services.opening import CallOpening
from tests.crash.connections import Asked, Connection, get
from tests.crash.programs import ERROR_MS
from tests.crash.subjects import Findings
from tests.crash.tickets.checking import read_entry
from tests.crash.tickets.memory import Shown, TicketMemory
from tests.crash.trees import leaf, roots_at

CALL: Final = "spring"
INDEX: Final = "index.jsonl"
_LAPSED: Final = "lapsed"
_EVIDENCE: Final = "evidence.json"
"""Names times, which are others in each run."""
_PAUSE_S: Final = 0.03
_DUE_S: Final = 10.0
_COMMANDS: Final = 0.5
_EARLY: Final = 0.1
_OPENED: Final = b"opening"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an opening that nobody disturbs ends.

    Attributes:
        root: Of the minutes.
        files: What lies in the inbox, by path, but what names times.
    """

    root: bytes
    files: Mapping[str, bytes]


@dataclass
class Opener:
    """Asks for the opening of a call, and looks at what is shown of it.

    Attributes:
        terms: Of the call.
        expected: What comes out; ``None``: nothing was staged, so everything lapses.
    """

    terms: Terms
    expected: Outcome | None = None

    @property
    def is_due(self) -> bool:
        """Whether nothing can come any more."""
        return SystemClock().now() > self.terms.stage_by

    def arguments(self, folder: Path, chance: random.Random) -> list[str] | None:
        """Those of ``open``, now and then; rarely when it is too early."""
        if chance.random() >= (_COMMANDS if self.is_due else _EARLY):
            return None
        return ["open", "--call", CALL, "--dir", str(folder)]

    async def run(self, folder: Path, memory: TicketMemory, chance: random.Random) -> None:
        """Ask ``serve`` for the last two entries, as ``open`` does, until cancelled."""
        call = CallRegistry(ServerFolder(folder)).load(CALL)
        client = ControlClient(ServerFolder(folder).control_socket, call)
        try:
            while True:
                await asyncio.sleep(chance.uniform(0.0, 2 * _PAUSE_S))
                if not self.is_due:
                    continue
                sent_at = SystemClock().now()
                with contextlib.suppress(BistroError):
                    await client.append_closed()
                    found = await client.append_opening()
                    fact = b"%d %b" % (found.index, found.entry.encode())
                    now = SystemClock().now()
                    asked = Asked(memory.life, 0, 0, sent_at, now, is_hidden=True)
                    memory.shown.append(Shown(routes.LOG_OPENING.path(call=CALL), fact, asked))
        finally:
            await client.close()

    async def look(
        self, connection: Connection, memory: TicketMemory, chance: random.Random
    ) -> None:
        """Fetch something that an opening leaves for everybody."""
        paths = [routes.LOG_OPENING.path(call=CALL), routes.MINUTES.path(call=CALL)]
        if memory.held:
            commitment = chance.choice(memory.held).commitment.hex()
            paths.append(
                routes.OUTCOME.path(call=CALL, commitment=commitment, token=NO_TOKEN.hex())
            )
        await self._fetch(connection, memory, chance.choice(paths))

    async def _fetch(self, connection: Connection, memory: TicketMemory, path: str) -> bytes | None:
        sent_at = SystemClock().now()
        status, body = await connection.ask(get(path))
        if status != 200:
            return None
        fact = _fact(body) if path == routes.LOG_OPENING.path(call=CALL) else body
        memory.shown.append(Shown(path, fact, connection.asked(memory.life, sent_at)))
        return body

    # --- after a death ---

    async def check(
        self, connection: Connection, memory: TicketMemory, log: Sequence[bytes]
    ) -> Findings:
        """What is shown still, and whether the log's last entry is where it belongs."""
        findings = Findings(self._entry_faults(log))
        known = {one.path: one.fact for one in memory.shown}
        if memory.opened:
            # Then these are there, whether anybody has looked or not.
            for path in (routes.LOG_OPENING.path(call=CALL), routes.MINUTES.path(call=CALL)):
                known.setdefault(path, b"")
        for path, fact in known.items():
            findings.counts["shown of openings"] += 1
            body = await self._fetch(connection, memory, path)
            if body is None:
                findings.faults.append(f"{path}: is not served any more")
            elif fact and memory.shown[-1].fact != fact:
                findings.faults.append(f"{path}: is another now")
            elif path == routes.MINUTES.path(call=CALL):
                findings.faults += self._minutes_faults(body, log)
        findings.faults += [
            f"{one.path}: was another in life {one.asked.life}"
            for one in memory.shown
            if known.get(one.path) not in {b"", one.fact}
        ]
        return findings

    def _entry_faults(self, log: Sequence[bytes]) -> list[str]:
        entries = [read_entry(entry) for entry in log]
        places = [at for at, one in enumerate(entries) if one.kind == "opening"]
        if not places:
            return []
        faults, at = [], places[0]
        if len(places) > 1 or at != len(entries) - 1:
            faults.append(f"opening entries at {places}, the log has {len(entries)} entries")
        if at == 0 or "closed" not in {one.kind for one in entries[:at]}:
            faults.append(f"opening entry {at}: the call was not closed before")
        if entries[at].time <= self.terms.stage_by:
            faults.append(f"opening entry {at}: of {entries[at].time}, before stage_by")
        return faults

    def _minutes_faults(self, note: bytes, log: Sequence[bytes]) -> list[str]:
        try:
            minutes = verify_minutes(note, self.terms.keys.status)
        except BistroError as exc:
            return [f"minutes: {exc.message}"]
        entries = [(at, read_entry(entry)) for at, entry in enumerate(log)]
        tickets = [(at, one) for at, one in entries if one.kind == "ticket"]
        faults = []
        if minutes.count != len(tickets):
            faults.append(f"minutes: count {minutes.count}, the log has {len(tickets)} tickets")
        if minutes.opened_at != entries[-1][1].time:
            faults.append("minutes: name another time than the opening entry")
        if f"\n{len(log)}\n" not in minutes.checkpoint_note.decode():
            faults.append("minutes: their checkpoint does not end with the log")
        if minutes.root != self._root([(at, one.digest) for at, one in tickets]):
            faults.append("minutes: their root does not follow from the outcomes")
        return faults

    def _root(self, tickets: Sequence[tuple[int, bytes]]) -> bytes:
        """The root that the outcomes have."""
        if self.expected is not None:
            return self.expected.root
        salted = salted_outcome(b"", _LAPSED)
        leaves = [
            leaf(MinutesEntry(index=at, commitment=digest, salted=salted).encode())
            for at, digest in tickets
        ]
        return roots_at(leaves, [len(leaves)])[len(leaves)]

    @staticmethod
    async def _open_when_due(folder: Path) -> None:
        """Open the call; what waits to be stamped is waited for first."""
        async with asyncio.timeout(_DUE_S):
            while True:
                try:
                    return await open_call(folder)
                except NotOpenError:
                    await asyncio.sleep(_PAUSE_S)

    async def finish(self, folder: Path, log: Sequence[bytes]) -> Findings:
        """Open the call to the end, when no process runs, and once more."""
        findings = Findings(counts=Counter({"calls opened": 1}))
        try:
            await self._open_when_due(folder)
            first = results(folder)
            await open_call(folder)
        except BistroError as exc:
            findings.faults.append(f"open: {exc.message}")
            return findings
        if results(folder) != first:
            findings.faults.append("open: a further one changes something")
        if self.expected is None:
            lines = [json.loads(line) for line in first[INDEX].splitlines()]
            found = [(one["commitment"], one["index"], one["outcome"]) for one in lines]
            entries = enumerate(map(read_entry, log))
            wanted = [
                (one.digest.hex(), at, _LAPSED) for at, one in entries if one.kind == "ticket"
            ]
            if found != wanted:
                findings.faults.append("open: the index is not that of the log's tickets")
        elif inbox_files(first) != self.expected.files:
            findings.faults.append("open: the inbox is not that of an opening nobody disturbed")
        return findings


def _fact(proof: bytes) -> bytes:
    """What of a proof stays the same as the log grows: index and entry."""
    found = Proof.parse(proof.decode())
    return b"%d %b" % (found.index, found.entry or b"")


async def open_call(folder: Path) -> None:
    """What ``bistro-server open`` does.

    Raises:
        BistroError: As it.
    """
    opening = CallOpening(
        folder=ServerFolder(folder), clock=SystemClock(ERROR_MS), error_limit_ms=2 * ERROR_MS
    )
    await opening.run(CALL)


def results(folder: Path) -> dict[str, bytes]:
    """All that an opening leaves: minutes, notes, inbox."""
    server = ServerFolder(folder)
    call = server.call(CALL)
    found = {"minutes": call.minutes.read_bytes()}
    for root in (call.inbox, server.status):
        for path in root.rglob("*"):
            if path.is_file():
                found[str(path.relative_to(root))] = path.read_bytes()
    return found


def inbox_files(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """What of it is the same in every opening of the same submissions."""
    return {
        path: data
        for path, data in found.items()
        if "/files/" in path or path.endswith((INDEX, "manifest.json"))
    }
