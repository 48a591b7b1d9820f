"""The play, scene by scene: what filers, relays and the destination do, and what goes wrong.

A scene acts and writes down what happened; whether that is what was promised, ``examining``
decides.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from bistro.errors import BistroError
from bistro.instant import UnixMillis
from bistro.protocol.deadline import latest_on_time
from bistro.protocol.submission import Submission
from bistro.wire.receipt import Receipt
from bistro.wire.refusal import Refusal
from bistro.wire.terms import Terms
from bistro.wire.ticket import Ticket
from bistro_client.home import Home
from bistro_client.journal import read_journal
from tests.e2e.demo.cast import Finished
from tests.e2e.demo.companions import Companion, PerformanceError
from tests.e2e.demo.following import Request
from tests.e2e.demo.promises import Promise
from tests.e2e.demo.stage import CALL, Stage
from tests.e2e.demo.story import FilingStory, KillStory, Story

KILLED: Final = 1
"""Which relay is killed."""
PACE: Final = 24_000_000
"""Bytes a second at which the destination collects."""
_LARGE: Final = 1_500_000
_SMALLER: Final = 300_000
_CURTAIN_MS: Final = 15_000
"""Starting daemons and clients takes a third of this on two free cores."""
_SLOWEST: Final = 5.0
_PAUSE_S: Final = 0.2
_PATIENCE_S: Final = 90
_REFUSED: Final = 3
_UNAVAILABLE: Final = 5
_TRIES: Final = 4
_MS_PER_S: Final = 1_000

Tell = Callable[[str], None]


@dataclass(slots=True)
class Scenes:
    """The scenes, to be played in order.

    Attributes:
        stage: Where they are played.
        story: Where they are written down.
        tell: Told what happens, in sentences.
    """

    stage: Stage
    story: Story
    tell: Tell

    async def open_call(self, *, closes_s: int) -> None:
        """The curtain rises, and the call opens."""
        clock = self.stage.clock
        began_ms = clock.monotonic_ms()
        await self.stage.raise_curtain({one.home for one in self.story.on_time})
        took_ms = clock.monotonic_ms() - began_ms
        self.story.slowness = slowness_of(took_ms)
        if self.story.slowness > 1:
            closes_s = math.ceil(closes_s * self.story.slowness)
            self.tell(
                f"this machine is busy: starting the daemons took {took_ms / _MS_PER_S:.0f} s, so "
                f"the call closes in {closes_s} s, and everybody has more time"
            )
        signed = await self.stage.create_call(closes_s=closes_s, patience_s=_PATIENCE_S)
        self.story.terms = signed.terms
        self.story.began_at = signed.terms.opens
        names = ", ".join(site.name for site in self.stage.relays)
        self.tell(f"{self.stage.destination.name} and the relays {names} are up")
        self.tell(f"{signed.origin} closes in {closes_s} s; any 2 of 3 fragments restore a filing")

    async def rush(self) -> None:
        """All filers at once, a killed relay, and somebody who tries to open early."""
        async with asyncio.TaskGroup() as group:
            for home in self.stage.clients:
                group.create_task(self._file_all(home))
            for one in self.story.on_time:
                if one.filing.by_command:
                    group.create_task(self._submit_in_time(one))
            group.create_task(self._kill_a_relay())
            group.create_task(self._open_early())
        tickets = [one.ticket.time for one in self.story.on_time if one.ticket is not None]
        spare_ms = latest_on_time(self._terms) - max(tickets, default=self._terms.opens)
        spare = f"{abs(spare_ms) / _MS_PER_S:.1f} s {'before' if spare_ms >= 0 else 'after'}"
        self.tell(f"{len(tickets)} tickets, the last one {spare} the deadline")

    async def come_late(self) -> None:
        """The deadline passes, and one more filer comes."""
        await self._wait_until(UnixMillis(latest_on_time(self._terms) + 100))
        late = self.story.late
        await self._submit(late)
        what = "was refused, signed" if late.refusal else f"got exit code {late.exits[-1]}"
        self.tell(f"{late.label} came after the deadline and {what}")

    async def collect(self) -> None:
        """The destination fetches what relays hold, at its own pace."""
        began_at = self.stage.clock.now()
        (await self._server("collect", f"--bytes-per-s={PACE}")).require()
        self.story.collecting = (began_at, self.stage.clock.now())
        envelopes = {path.stem: path for path in self.stage.call.envelopes.rglob("*.age")}
        for one in self.story.on_time:
            if one.commitment in envelopes:
                written = envelopes[one.commitment].stat().st_mtime_ns // 1_000_000
                one.collected_at = UnixMillis(written)
        count = sum(one.collected_at is not None for one in self.story.on_time)
        took_s = (self.story.collecting[1] - began_at) / _MS_PER_S
        self.tell(f"{count} envelopes collected in {took_s:.1f} s")

    async def open_at_last(self) -> None:
        """The destination opens everything; every filer looks where the own filings stand."""
        began_at = self.stage.clock.now()
        (await self._server("open")).require()
        self.story.opening = (began_at, self.stage.clock.now())
        for one in self.story.on_time:
            inbox = self.stage.call.inbox / one.commitment
            one.inbox = inbox if one.commitment and inbox.is_dir() else None
        self.tell(f"{sum(one.inbox is not None for one in self.story.on_time)} filings opened")
        async with asyncio.TaskGroup() as group:
            for client in self.stage.clients.values():
                group.create_task(self._look(client))
            late = f"--home={self.story.late.home}"
            group.create_task(self.stage.cast.run("bistro", "status", late))
        for one in self.story.filings:
            self._read_journal(one)

    async def _look(self, client: Companion) -> None:
        """A filer's client fetches and verifies status, outcome and minutes, and is done."""
        async for answer in client.ask(None):
            self.tell(f"{client.what}: {answer['said']}")
        await client.leave()

    @property
    def _terms(self) -> Terms:
        if self.story.terms is None:
            raise PerformanceError("there is no call yet")
        return self.story.terms

    @property
    def _window_ms(self) -> int:
        return self._terms.closes - self._terms.opens

    async def _wait_until(self, at: UnixMillis) -> None:
        await asyncio.sleep(max(0, at - self.stage.clock.now()) / _MS_PER_S)

    async def _server(self, command: str, *options: str) -> Finished:
        folder = f"--dir={self.stage.destination.root}"
        line = ("bistro-server", command, f"--call={CALL}", folder, *options)
        return await self.stage.cast.run(*line)

    def _arrival(self, one: FilingStory) -> UnixMillis:
        arrives_ms = round(one.filing.arrives_s * self.story.slowness * _MS_PER_S)
        return UnixMillis(self._terms.opens + arrives_ms)

    async def _file_all(self, home: Path) -> None:
        """One filer's client that stays: all its filings, each from its time on."""
        theirs = {
            one.filing.number: one
            for one in self.story.on_time
            if one.home == home and not one.filing.by_command
        }
        orders = [
            {
                "number": number,
                "at": self._arrival(one),
                "paths": _paths(one),
                "url": self.stage.destination.gate.url,
                "call": CALL,
                "slot": one.filing.slot,
                "trust": self.stage.trust.format(),
            }
            for number, one in theirs.items()
        ]
        async for answer in self.stage.clients[home].ask(orders):
            one = theirs[int(str(answer["number"]))]
            one.began_at = UnixMillis(int(str(answer["began_at"])))
            one.exits = [int(code) for code in cast("list[int]", answer["exits"])]
            one.said = str(answer["said"])
            self._read_journal(one)

    async def _submit_in_time(self, one: FilingStory) -> None:
        await self._wait_until(self._arrival(one))
        await self._submit(one)

    async def _submit(self, one: FilingStory) -> None:
        """File with the command, as a person would."""
        one.began_at = self.stage.clock.now()
        home = f"--home={one.home}"
        finished = await self.stage.cast.run(
            *("bistro", "submit", *_paths(one), f"--to={self.stage.destination.gate.url}", home),
            *(
                f"--call={CALL}",
                f"--slot={one.filing.slot}",
                f"--trust={self.stage.trust.format()}",
            ),
        )
        one.exits.append(finished.exit_code)
        # What could not be reached is tried again, as the program's own hint says.
        while finished.exit_code == _UNAVAILABLE and len(one.exits) < _TRIES:
            finished = await self.stage.cast.run("bistro", "resume", home)
            one.exits.append(finished.exit_code)
        one.said = finished.stderr.strip()
        self._read_journal(one)

    def _read_journal(self, one: FilingStory) -> None:
        """Take over what the client wrote down of a filing."""
        for folder in Home(one.home).folders():
            try:
                submission = read_journal(folder)
            except BistroError as exc:
                one.said = f"{one.said}\n{exc}"
                continue
            if submission.request.slot == one.filing.slot:
                one.folder = folder
                _take_over(one, submission)

    async def _open_early(self) -> None:
        """Somebody at the destination tries to open while the call still takes tickets."""
        await self._wait_until(UnixMillis(self._terms.opens + self._window_ms // 6))
        finished = await self._server("open")
        opened = [path.name for path in self.stage.server.inbox.glob("*/*")]
        faults = [f"{name} was opened" for name in opened]
        if finished.exit_code != _REFUSED:
            faults.append(f"expected exit code 3, found {finished.exit_code}: {finished.stderr}")
        if finished.ended_at >= latest_on_time(self._terms):
            faults.append("the attempt itself came too late to show anything")
        said = " ".join(finished.stderr.split())
        self.story.verdicts.examined(
            Promise.EARLY, faults, f"tried while the call was open: {said}"
        )
        self.tell("an attempt to open before the deadline was refused" if not faults else faults[0])

    async def _kill_a_relay(self) -> None:
        """``kill -9`` while a large fragment is on its way to the relay; a second later, start."""
        site = self.stage.relays[KILLED]
        opens = self._terms.opens
        await self._wait_until(UnixMillis(opens + self._window_ms * 3 // 10))
        late_at = opens + self._window_ms * 6 // 10
        struck: asyncio.Future[Request] = asyncio.get_running_loop().create_future()

        def strike(request: Request) -> None:
            size = _LARGE if self.stage.clock.now() < late_at else _SMALLER
            if not struck.done() and is_mid_upload(request, size):
                site.kill()
                struck.set_result(request)

        site.gate.watch = strike
        limit_s = (opens + self._window_ms * 8 // 10 - self.stage.clock.now()) / _MS_PER_S
        await asyncio.wait({struck}, timeout=limit_s)
        site.gate.watch = None
        site.kill()
        kill = KillStory(site.name, self.stage.clock.now(), sent=0, size=0)
        if struck.done():
            hit = struck.result()
            kill.sent, kill.size, kill.path = hit.sent, hit.size, hit.path
        kill.requests_seen = len(site.gate.requests)
        self.story.kill = kill
        self.tell(f"kill -9 {site.name}, {kill.sent:,} of {kill.size:,} bytes into an upload")
        await site.daemon.ended()
        await asyncio.sleep(_PAUSE_S)
        await site.start()
        kill.back_at = self.stage.clock.now()
        self.tell(f"{site.name} is back after {(kill.back_at - kill.at) / _MS_PER_S:.1f} s")


def slowness_of(curtain_ms: int) -> float:
    """How many times slower than needed this machine is now; 1 where it is fast enough.

    The deadline is for filers' programs, not for a machine that others keep busy: starting twenty
    processes tells how long others will take.
    """
    return min(_SLOWEST, max(1.0, curtain_ms / _CURTAIN_MS))


def _paths(one: FilingStory) -> list[str]:
    return sorted(str(path) for path in one.source.iterdir())


def is_mid_upload(request: Request, size: int) -> bool:
    """Whether the request is the upload of at least ``size`` bytes, and well under way."""
    if not request.path.startswith("/uploads") or request.size < size:
        return False
    return request.size // 4 <= request.sent <= request.size * 3 // 4


def _take_over(one: FilingStory, submission: Submission) -> None:
    if submission.sealed is not None:
        one.commitment = submission.sealed.commitment.hex()
    if submission.ticket is not None:
        one.ticket = Ticket.parse(submission.ticket)
    if submission.refusal is not None:
        one.refusal = Refusal.parse(submission.refusal)
    texts = [part.receipt for part in submission.fragments if part.receipt is not None]
    one.receipts = tuple(Receipt.parse(text) for text in texts)
    one.attempts = len(submission.attempts)
    one.outcome = submission.outcome
