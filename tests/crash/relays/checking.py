"""Whether a relay that was started again has kept its word, as its clients can see it.

| promise | how |
|---|---|
| byte for byte | what has a receipt is pulled and compared, unless its release was asked for |
| receipts last | they are served again, and given again for the same claim, with the same entry |
| shown | the destination finds it at ``/staged``; nothing appears below a cursor that it has read |
| offsets | none is below one that was told; the upload goes on there and gets its receipt |
| given up | an upload whose end was answered does not come back |
| released | a release that was answered is answered so again, and the fragment is not handed out |
| taken down | once the command has ended well, the fragment goes, and is not taken again |
| it goes on | new fragments get receipts, whole and in pieces, and are released |

What was asked for and not answered may have happened or not; ``custody`` looks for its trace.
Where holds end by time, what may be gone is not missed, and after ``repair_by`` nobody promised
that uploads go on.
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - passed in, seeded
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bistro.errors import BistroError
from bistro.wire.batches import BatchItem
from bistro.wire.proof import Proof
from bistro.wire.staging import Failure, StagedRow
from tests.crash.connections import Connection, GoneError, connected
from tests.crash.relays.asking import RelayClients
from tests.crash.relays.memory import Held, RelayMemory
from tests.crash.relays.town import Fragment, Key, key_of, spell
from tests.crash.subjects import Findings

_AGAIN: Final = 25
"""So many receipts are asked for once more in each way."""
_PULLED: Final = 60
_UNKNOWN: Final = "unknown-object"
_PAGE: Final = 1_000
_TERMS_S: Final = 10.0
_LOOK_S: Final = 0.01
_TAKEDOWN_S: Final = 10.0
_REFUSED: Final = 403


@dataclass
class RelayCheck:
    """One look at a relay.

    Attributes:
        clients: Asks; knows what was promised.
        chance: Chooses what is asked again.
        unused: Fragments for new uploads: one that is sent whole, one in pieces.
        gone: Fragments that are not there any more; somebody must have released them.
    """

    clients: RelayClients
    chance: random.Random
    unused: Sequence[Fragment]
    findings: Findings = field(default_factory=Findings)
    gone: set[Key] = field(default_factory=set)

    @property
    def _memory(self) -> RelayMemory:
        return self.clients.memory

    def _fault(self, text: str) -> None:
        self.findings.faults.append(text)

    async def run(self, port: int) -> Findings:
        """Everything that the module's table says."""
        try:
            async with connected(port, self.clients.tls) as connection:
                await self._wait_for_terms(connection)
                held = list(self._memory.held)
                await self._check_takedowns(connection)
                await self._check_bytes(connection, held)
                await self._check_rows(connection, held)
                await self._check_receipts(connection, held)
                await self._check_releases(connection)
                await self._check_ended(connection)
                await self._check_uploads(connection)
                await self._go_on(connection)
        except (BistroError, GoneError, TimeoutError, ValueError) as exc:
            self._fault(f"what was started again does not answer: {exc}")
        self.findings.faults += self.clients.problems
        return self.findings

    async def _wait_for_terms(self, connection: Connection) -> None:
        """A relay that has just begun may not know yet whose signature counts."""
        async with asyncio.timeout(_TERMS_S):
            while not await self.clients.knows_terms(connection):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(_LOOK_S)

    async def _check_takedowns(self, connection: Connection) -> None:
        """What was taken down goes in time; new uploads of it are refused at once."""
        memory, holding = (
            self._memory,
            {one.fragment.key: one.fragment for one in self._memory.held},
        )
        done = {key for one in memory.ordered for key in one.keys}
        # An upload that had begun before may end, and what it brings goes some time later.
        begun = {one.fragment.key for one in memory.told} - memory.held_keys
        for key in sorted(done & holding.keys() - begun):
            self.findings.counts["takedowns looked up"] += 1
            async with asyncio.timeout(_TAKEDOWN_S):
                while not await self._is_gone(connection, key):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(_LOOK_S)
            answer = await connection.exchange(self.clients.creation(holding[key], None))
            if answer.status != _REFUSED:
                self._fault(f"{spell(key)}: taken down, and an upload is answered {answer.status}")

    async def _is_gone(self, connection: Connection, key: Key) -> bool:
        ((head, _),) = await self.clients.pull(connection, [BatchItem(*key)])
        return head.code == _UNKNOWN

    async def _check_bytes(self, connection: Connection, held: Sequence[Held]) -> None:
        memory = self._memory
        wanted = list({one.fragment.key: one.fragment for one in held}.values())
        answered = {one.fragment.key for one in memory.released}
        for at in range(0, len(wanted), _PULLED):
            some = wanted[at : at + _PULLED]
            frames = await self.clients.pull(connection, [BatchItem(*one.key) for one in some])
            for one, (head, data) in zip(some, frames, strict=True):
                if head.code is None:
                    self.findings.counts["fragments compared"] += 1
                    if data != one.data:
                        self._fault(f"{spell(one.key)}: other bytes than were staged")
                    if one.key in answered:
                        self._fault(f"{spell(one.key)}: handed out after its release")
                elif head.code == _UNKNOWN and memory.may_be_gone(one.key):
                    self.gone.add(one.key)
                else:
                    self._fault(f"{spell(one.key)}: promised, and answered {head.code}")

    async def _check_rows(self, connection: Connection, held: Sequence[Held]) -> None:
        rows = await self._rows(connection)
        if rows is None:
            self._fault("staged rows are not served")
            return
        found = {key_of(row): row for row in rows}
        for one in held:
            key = one.fragment.key
            if key not in found and not self._memory.may_be_gone(key):
                self._fault(f"{spell(key)}: promised, and not among the staged rows")
        for released in self._memory.released:
            if (key := released.fragment.key) in found:
                self._fault(f"{spell(key)}: among the staged rows after its release")
        if self._memory.listed:
            self._check_cursors(found)
        self.findings.counts["staged rows"] += len(rows)

    def _check_cursors(self, found: Mapping[Key, StagedRow]) -> None:
        last = self._memory.listed[-1]
        for key, row in found.items():
            if row.cursor <= last.cursor and key not in last.keys:
                self._fault(f"{spell(key)}: its cursor {row.cursor} was read before it was there")

    async def _rows(self, connection: Connection) -> list[StagedRow] | None:
        rows: list[StagedRow] = []
        while True:
            found = await self.clients.staged(connection, after=rows[-1].cursor if rows else 0)
            if found is None:
                return None
            rows += found[0]
            if len(found[0]) < _PAGE:
                return rows

    async def _check_receipts(self, connection: Connection, held: Sequence[Held]) -> None:
        for one in self.chance.sample(held, min(len(held), _AGAIN)):
            text = await self.clients.fetch_receipt(connection, one.fragment, one.upload)
            if text is None:
                # Another upload brought the same fragment first, and this one has ended.
                text = await self._ask_again(connection, one.fragment)
            self._compare(one, text, f"its receipt at {one.upload}")
        for one in self.chance.sample(held, min(len(held), _AGAIN)):
            self._compare(one, await self._ask_again(connection, one.fragment), "asked again")

    async def _ask_again(self, connection: Connection, fragment: Fragment) -> str | None:
        """The receipt that the same claim gets now, whatever is sent."""
        count = len(self._memory.held)
        await self.clients.create(connection, fragment)
        new = self._memory.held[count:]
        return new[0].text if new else None

    def _compare(self, one: Held, text: str | None, what: str) -> None:
        if text is None and self._memory.may_be_refused(one.fragment.key):
            return
        self.findings.counts["receipts asked again"] += 1
        if text is None:
            self._fault(f"{spell(one.fragment.key)}: {what} is not there")
        elif place_of(text) != place_of(one.text):
            self._fault(f"{spell(one.fragment.key)}: {what} is another")

    async def _check_releases(self, connection: Connection) -> None:
        released = [one.fragment for one in self._memory.released]
        some = self.chance.sample(released, min(len(released), _AGAIN))
        if not some:
            return
        answers = await self.clients.release(connection, some)
        if answers is None:
            self._fault("releases are not taken any more")
            return
        for one, answer in zip(some, answers, strict=True):
            self.findings.counts["releases asked again"] += 1
            if isinstance(answer, Failure):
                self._fault(f"{spell(one.key)}: released, and answered {answer} when asked again")

    async def _check_ended(self, connection: Connection) -> None:
        for one in self._memory.ended:
            self.findings.counts["ends looked up"] += 1
            answer = await connection.exchange(self.clients.head(one.upload), is_head=True)
            if answer.status not in {404, 410}:
                self._fault(f"{one.upload}: given up, and answered {answer.status}")

    async def _check_uploads(self, connection: Connection) -> None:
        """Every upload that was told an offset goes on there, to its receipt."""
        for path, told in self._memory.open_uploads().items():
            self.findings.counts["uploads resumed"] += 1
            fragment, what = told.fragment, f"{path}, told {told.offset}"
            at = await self.clients.look(connection, fragment, path)
            if at is None:
                # Another upload may have brought the same fragment first.
                text = await self._ask_again(connection, fragment)
                if text is None and not self._may_be_refused(fragment.key):
                    self._fault(f"{what}: gone, and its fragment is not held")
            elif at < len(fragment.data):
                await self._finish(connection, fragment, path, at)

    async def _finish(self, connection: Connection, fragment: Fragment, path: str, at: int) -> None:
        request = self.clients.piece(fragment, path, at=at, size=len(fragment.data))
        status = await self.clients.append(connection, fragment, path, request)
        if fragment.key not in self._memory.held_keys and not self._may_be_refused(fragment.key):
            self._fault(f"{path}: cannot go on from {at}: status {status}, no receipt")

    def _may_be_refused(self, key: Key) -> bool:
        """Whether a fragment need not be taken now, though it was begun."""
        return self.clients.is_late or self._memory.may_be_refused(key)

    async def _go_on(self, connection: Connection) -> None:
        whole, pieces = self.unused
        await self.clients.create(connection, whole, whole.data)
        path = await self.clients.create(connection, pieces)
        if path is not None and pieces.key not in self._memory.held_keys:
            await self._finish(connection, pieces, path, 0)
        if self.clients.is_late:
            return
        for one in self.unused:
            if one.key not in self._memory.held_keys:
                self._fault(f"{spell(one.key)}: a new fragment gets no receipt any more")
        answers = await self.clients.release(connection, [whole])
        if answers is None or isinstance(answers[0], Failure):
            self._fault(f"{spell(whole.key)}: cannot be released: {answers}")


def place_of(text: str) -> tuple[int, bytes | None]:
    """Index and entry of a receipt."""
    proof = Proof.parse(text)
    return proof.index, proof.entry
