"""The load of a relay: filers who upload in every way there is, and a destination that pulls."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - passed in, seeded
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bistro.wire.batches import BatchItem
from tests.crash.connections import Connection, GoneError, connected
from tests.crash.relays.asking import RelayClients
from tests.crash.relays.memory import Listed
from tests.crash.relays.town import Fragment, Key, key_of, spell

_PAUSE_S: Final = 0.004
_REPEATED: Final = 0.15
_PIECES: Final = (1, 512, 10_000, 65_536, 100_000, 1_000_000)
_RELEASING: Final = 0.3
_LOCKED: Final = 423
_UNKNOWN: Final = "unknown-object"


@dataclass
class Filers:
    """Everybody who loads a relay.

    Attributes:
        clients: Asks and remembers.
        small: Fragments that are sent whole, mostly.
        large: Fragments that are sent in pieces, mostly.
    """

    clients: RelayClients
    small: Sequence[Fragment]
    large: Sequence[Fragment]

    async def run(self, port: int, chance: random.Random, count: int) -> None:
        """``count`` filers and a destination, until cancelled."""
        async with asyncio.TaskGroup() as everybody:
            for _ in range(count):
                everybody.create_task(self._filer(port, random.Random(chance.random())))
            if chance.random() < 0.7:
                everybody.create_task(self._destination(port, random.Random(chance.random())))

    async def _filer(self, port: int, chance: random.Random) -> None:
        acts = (self._whole, self._whole, self._whole, self._begin, self._continue, self._odd)
        while True:
            try:
                async with connected(port, self.clients.tls) as connection:
                    while await chance.choice(acts)(connection, chance):
                        pass
            except GoneError:
                self.clients.answers["nobody"] += 1
            await asyncio.sleep(_PAUSE_S)

    def choose(self, fragments: Sequence[Fragment], chance: random.Random) -> Fragment:
        """A fragment that nobody has sent, or now and then one that somebody has."""
        asked_at = self.clients.memory.asked_at
        if chance.random() >= _REPEATED:
            for _ in range(20):
                one = chance.choice(fragments)
                if one.key not in asked_at:
                    return one
        return chance.choice(fragments)

    async def _whole(self, connection: Connection, chance: random.Random) -> bool:
        """Some fragments, each in one request; sometimes nobody waits for the answer."""
        for _ in range(chance.choice((1, 1, 3, 10))):
            one = self.choose(self.small if chance.random() < 0.9 else self.large, chance)
            if chance.random() < 0.04:
                request = self.clients.creation(one, one.data)
                connection.abandon(request[: chance.choice((len(request), len(request) // 2))])
                return False
            await self.clients.create(connection, one, one.data)
        return True

    async def _begin(self, connection: Connection, chance: random.Random) -> bool:
        """An upload that goes on with the next request, or much later."""
        one = self.choose(self.large if chance.random() < 0.7 else self.small, chance)
        first = None if chance.random() < 0.5 else one.data[: len(one.data) // 3]
        path = await self.clients.create(connection, one, first or None)
        if path is None or path not in self.clients.memory.open_uploads():
            return True
        return await self._append(connection, one, path, len(first or b""), chance)

    async def _continue(self, connection: Connection, chance: random.Random) -> bool:
        """Ask where an upload stands, and go on."""
        uploads = self.clients.memory.open_uploads()
        if not uploads:
            return True
        path = chance.choice(list(uploads))
        one = uploads[path].fragment
        at = await self.clients.look(connection, one, path)
        return at is None or await self._append(connection, one, path, at, chance)

    async def _append(
        self,
        connection: Connection,
        one: Fragment,
        path: str,
        at: int,
        chance: random.Random,
    ) -> bool:
        clients = self.clients
        while at < len(one.data) and chance.random() < 0.85:
            size = chance.choice(_PIECES)
            has_checksum = chance.random() < 0.2
            request = clients.piece(one, path, at=at, size=size, has_checksum=has_checksum)
            if chance.random() < 0.15:
                connection.abandon(request[: chance.randint(1, len(request))])
                return False
            status = await clients.append(connection, one, path, request)
            if status != 204:
                return status == _LOCKED
            at += len(one.data[at : at + size])
        return True

    async def _odd(self, connection: Connection, chance: random.Random) -> bool:
        """Give up an upload, send wrong bytes, or ask for a receipt once more."""
        clients, memory, dice = self.clients, self.clients.memory, chance.random()
        if dice < 0.25 and (uploads := memory.open_uploads()):
            await clients.terminate(connection, chance.choice(list(uploads)))
        elif dice < 0.5:
            one = self.choose(self.small, chance)
            await clients.create(connection, one, bytes(len(one.data)))
        elif dice < 0.6 and (uploads := memory.open_uploads()):
            path = chance.choice(list(uploads))
            one = uploads[path].fragment
            at = await clients.look(connection, one, path)
            if at is not None and at < len(one.data):
                # The whole is not the descriptor's then: the upload ends.
                memory.end_wanted.add(path)
                wrong = Fragment(one.key, bytes(len(one.data)), one.claim, one.fragment_hash)
                request = clients.piece(wrong, path, at=at, size=len(one.data))
                await clients.append(connection, one, path, request)
        elif memory.held:
            held = chance.choice(memory.held)
            await clients.fetch_receipt(connection, held.fragment, held.upload)
        return True

    # --- the destination ---

    async def _destination(self, port: int, chance: random.Random) -> None:
        while True:
            try:
                async with connected(port, self.clients.tls) as connection:
                    while True:
                        await self._collect(connection, chance)
                        await asyncio.sleep(_PAUSE_S)
            except GoneError:
                self.clients.answers["nobody"] += 1
            await asyncio.sleep(_PAUSE_S)

    async def _collect(self, connection: Connection, chance: random.Random) -> None:
        """Read new rows, pull some of what is held, and release some of that."""
        await self._read_rows(connection)
        held = [one.fragment for one in self.clients.memory.held]
        if not held:
            return
        some = list(dict.fromkeys(chance.choices(held, k=chance.choice((1, 3, 20)))))
        good = await self.pull(connection, some)
        if chance.random() < _RELEASING and good:
            await self.clients.release(connection, good[: chance.randint(1, len(good))])

    async def _read_rows(self, connection: Connection) -> None:
        listed = self.clients.memory.listed
        cursor, known = (listed[-1].cursor, listed[-1].keys) if listed else (0, frozenset[Key]())
        found = await self.clients.staged(connection, after=cursor)
        if found is None or not found[0]:
            return
        rows, asked = found
        listed.append(Listed(rows[-1].cursor, known | set(map(key_of, rows)), asked))

    async def pull(self, connection: Connection, wanted: Sequence[Fragment]) -> list[Fragment]:
        """Fragments that came whole and are what was staged."""
        items = [BatchItem(*one.key) for one in wanted]
        good = []
        frames = await self.clients.pull(connection, items)
        for one, (head, data) in zip(wanted, frames, strict=True):
            if head.code is None and data == one.data:
                good.append(one)
            elif head.code is None:
                self.clients.problems.append(f"{spell(one.key)}: other bytes")
            elif head.code == _UNKNOWN and not self.clients.memory.may_be_gone(one.key):
                self.clients.problems.append(f"{spell(one.key)}: promised, and not known")
        return good
