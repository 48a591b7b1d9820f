"""Builds the stage: folders, keys, gates and daemons of one destination and three relays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bistro.clock import Clock, kernel_error_bound_ms
from bistro.crypto.keyfile import decode_note_key
from bistro.crypto.signing import SigningKey, VerifierKey
from bistro.wire.terms import SignedTerms
from bistro_server.services.folder import CallFolder, ServerFolder
from tests.e2e.demo.cast import Cast, Daemon
from tests.e2e.demo.companions import Companion, PerformanceError
from tests.e2e.demo.measure import Gate, Meter
from tests.e2e.demo.story import RelayStory

CALL: Final = "spring"
SERVER: Final = "permits.example"
RELAYS: Final = (
    RelayStory("amber.example", "Amber Hosting"),
    RelayStory("birch.example", "Birch University"),
    RelayStory("cedar.example", "Cedar Cooperative"),
)
_ASSUMED_MS: Final = 50
_LIMIT_MS: Final = 100
_DRIFT_MS: Final = 60
"""By how much the kernel's bound may grow while the demo runs."""


@dataclass(frozen=True, slots=True)
class ClockPlan:
    """What is said to the daemons about the clock, and to people."""

    environ: dict[str, str]
    statement: str
    is_assumed: bool


def plan_clock(bound_ms: int | None) -> ClockPlan:
    """Settings for a kernel that knows its clock's error, or does not.

    Args:
        bound_ms: What the kernel says; None: it is not synchronised.
    """
    if bound_ms is None:
        return ClockPlan(
            _clock_settings("ASSUMED_ERROR_MS", _ASSUMED_MS),
            "The kernel says that nothing synchronises its clock, so nobody knows how wrong it "
            f"is. The demo assumes an error of {_ASSUMED_MS} ms, openly "
            f"([clock] assumed_error_ms = {_ASSUMED_MS}): all times below rest on that.",
            is_assumed=True,
        )
    statement = f"The kernel knows its clock's error: at most {bound_ms} ms. Nothing is assumed."
    if bound_ms + _DRIFT_MS <= _LIMIT_MS:
        return ClockPlan({}, statement, is_assumed=False)
    limit_ms = bound_ms + _LIMIT_MS
    return ClockPlan(
        _clock_settings("ERROR_LIMIT_MS", limit_ms),
        f"{statement} That is more than daemons accept by default, so the demo lets them stamp "
        f"with up to {limit_ms} ms ([clock] error_limit_ms).",
        is_assumed=False,
    )


def _clock_settings(key: str, value: int) -> dict[str, str]:
    return {f"{prefix}_CLOCK__{key}": str(value) for prefix in ("BISTRO_SERVER", "BISTRO_RELAY")}


@dataclass(slots=True)
class Site:
    """One daemon where it runs: its folder, its process, the gate before it."""

    name: str
    root: Path
    gate: Gate
    daemon: Daemon
    vkey: str = ""

    async def start(self) -> None:
        """Start the daemon, and lead the gate to it."""
        self.gate.target = await self.daemon.start()

    def kill(self) -> None:
        """``kill -9``, this moment; whoever connects finds nobody."""
        self.daemon.kill()
        self.gate.target = None


@dataclass(slots=True, kw_only=True)
class Stage:
    """Everything that stands while the demo plays."""

    root: Path
    cast: Cast
    clock: Clock
    meter: Meter
    destination: Site
    relays: tuple[Site, ...]
    clients: dict[Path, Companion] = field(default_factory=dict)

    @property
    def server(self) -> ServerFolder:
        """The destination's folder."""
        return ServerFolder(self.destination.root)

    @property
    def call(self) -> CallFolder:
        """The call's folders at the destination."""
        return self.server.call(CALL)

    @property
    def trust(self) -> VerifierKey:
        """The key that ``init`` printed: whoever verifies was given it beforehand."""
        return VerifierKey.parse(self.destination.vkey)

    @property
    def collect_key(self) -> SigningKey:
        """The call's collect key, with which a relay may be asked what it holds."""
        return decode_note_key(self.call.key("collect").read_bytes())

    def terms(self) -> SignedTerms:
        """The call's terms as they are published."""
        return SignedTerms.parse((self.call.terms / "1.note").read_bytes())

    async def raise_curtain(self, homes: Iterable[Path]) -> None:
        """Make and start all daemons, each relay allows the destination; and filers' clients.

        Args:
            homes: Folders of the clients that stay.
        """
        serving = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._invite(serving))
            for site in self.relays:
                group.create_task(self._join(site, serving))
            for home in homes:
                group.create_task(self._seat(home))

    async def create_call(self, *, closes_s: int, patience_s: int) -> SignedTerms:
        """Create the call; it opens at once.

        Sealed until the deadline only, so that opening waits for nothing but collection; the
        times for staging and repairs are long enough for a slow machine.
        """
        stage_by_s = closes_s + patience_s
        relays = (f"--relay={site.gate.url}" for site in self.relays)
        finished = await self.cast.run(
            *("bistro-server", "call", "create", CALL, f"--dir={self.destination.root}"),
            *("--title=Permits, spring", "--sealed-until=closes"),
            *("-k", "2", "-n", "3"),
            *(f"--closes=+{closes_s}s", f"--stage-by=+{stage_by_s}s"),
            f"--repair-by=+{stage_by_s + patience_s}s",
            *relays,
        )
        finished.require()
        signed = self.terms()
        # Keys came over the relays' discovery; an operator compares fingerprints, we do.
        found = {relay.name: relay.vkey.format() for relay in signed.terms.relays}
        if found != {site.name: site.vkey for site in self.relays}:
            raise PerformanceError(f"the terms name other keys than those that init made: {found}")
        return signed

    async def lower_curtain(self) -> dict[str, int | None]:
        """Ask all daemons to stop; their exit codes."""
        sites = (self.destination, *self.relays)
        async with asyncio.TaskGroup() as group:
            stops = [group.create_task(site.daemon.stop()) for site in sites]
        return {site.name: stop.result() for site, stop in zip(sites, stops, strict=True)}

    async def _init(self, site: Site) -> None:
        program, *options = site.daemon.argv[0].rpartition("/")[2], f"--name={site.name}"
        operators = {relay.name: relay.operator for relay in RELAYS}
        if site.name in operators:
            options.append(f"--operator={operators[site.name]}")
        finished = await self.cast.run(
            *(program, "init", str(site.root), *options),
            *("--port=0", f"--base-url={site.gate.url}"),
        )
        site.vkey = printed_vkey(finished.require().stdout)

    async def _seat(self, home: Path) -> None:
        argv = ("python", "-m", "tests.e2e.demo.filer", str(home))
        client = self.clients[home] = await self.cast.companion(home.name, *argv)
        await client.require_ready()

    async def _invite(self, serving: asyncio.Event) -> None:
        await self._init(self.destination)
        await self.destination.start()
        serving.set()

    async def _join(self, site: Site, serving: asyncio.Event) -> None:
        await self._init(site)
        await serving.wait()
        trust = f"--trust={self.destination.vkey}"
        finished = await self.cast.run(
            "bistro-relay", "allow", self.destination.gate.url, trust, f"--dir={site.root}"
        )
        finished.require()
        await site.start()


@contextlib.asynccontextmanager
async def build_stage(root: Path, clock: Clock, plan: ClockPlan) -> AsyncIterator[Stage]:
    """A stage below ``root``; when the block ends, no process and no gate is left."""
    meter = Meter(clock)
    cast = Cast(root, plan.environ)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(cast.on_stage())

        async def site(program: str, name: str) -> Site:
            gate = await stack.enter_async_context(Gate(name, meter).open())
            folder = root / name
            daemon = cast.daemon(name, program, "serve", f"--dir={folder}")
            return Site(name, folder, gate, daemon)

        yield Stage(
            root=root,
            cast=cast,
            clock=clock,
            meter=meter,
            destination=await site("bistro-server", SERVER),
            relays=tuple([await site("bistro-relay", relay.name) for relay in RELAYS]),
        )


def printed_vkey(text: str) -> str:
    """The vkey in what ``init`` printed.

    Raises:
        PerformanceError: There is none.
    """
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "vkey":
            return value.strip()
    raise PerformanceError(f"init printed no vkey: {text}")


def kernel_clock() -> ClockPlan:
    """The plan for this machine."""
    return plan_clock(kernel_error_bound_ms())
