"""Sets up relays in several shapes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random  # noqa: TID251 - passed in, seeded
from pathlib import Path
from typing import Final

from bistro.clock import SystemClock
from bistro.instant import UnixMillis
from tests.crash.lives import serving
from tests.crash.relays.asking import RelayClients
from tests.crash.relays.filing import Filers
from tests.crash.relays.memory import RelayMemory
from tests.crash.relays.operator import Operator
from tests.crash.relays.stage import RelayStage
from tests.crash.relays.town import Town, publishing
from tests.crash.templates import Templates
from tests.crash.thresholds import HOLD_MS, KEPT_MS
from tests.crash.victims import Warm
from tests.crash.workers import client_context, make_certificate

_REAL_SHARE: Final = 0.15
"""Of the forked relays, so many have the real sizes: a segment is 16 MiB then."""
_WORKERS_SHARE: Final = 0.05
_KNOWING_SHARE: Final = 0.7
_LIVED_SHARE: Final = 0.5
_LIVED_COUNT: Final = 100
"""Receipts of a relay that has lived before."""
_LIVED_S: Final = 60.0
_LOOK_S: Final = 0.01
_SMALL_SETUP: Final = "tests.crash.thresholds:small_relay"
_ENDING_SHARE: Final = 0.15
_ENDING_MS: Final = (100, 2_000)
"""After so long nothing is taken any more; holds end soon after that."""
_ENDING_SETUP: Final = "tests.crash.thresholds:ending_relay"
_DROPPING_SHARE: Final = 0.4
_DROPPING_SETUP: Final = "tests.crash.thresholds:dropping_relay"


class RelaySubject:
    """``bistro-relay serve``, with small sizes or real ones.

    Args:
        templates: Where relays that have lived before are kept for further runs.
        warm: Runs them.
        sabotage: A name of ``sabotage.SABOTAGES``, or nothing.
    """

    name = "relays"
    modules: tuple[str, ...] = ("bistro_relay.cli", "bistro_relay.cli.serving", "bistro_relay.app")

    def __init__(self, templates: Path, warm: Warm, *, sabotage: str = "") -> None:
        self._templates = Templates[RelayMemory](templates)
        self._warm = warm
        self._sabotage = sabotage
        self._town: Town | None = None
        self._stack = contextlib.ExitStack()

    async def prepare(self, folder: Path, chance: random.Random, *, is_warm: bool) -> RelayStage:
        """A relay that holds something, or is empty, or has to fetch its call's terms first."""
        if self._town is None:
            self._town = self._stack.enter_context(publishing())
        is_small = is_warm and chance.random() >= _REAL_SHARE
        if is_small and chance.random() < _ENDING_SHARE:
            stage = await self._ending(self._town, folder, chance)
        elif chance.random() < _LIVED_SHARE:
            live = functools.partial(self._live, self._town, is_small=is_small)
            memory = await self._templates.copy("small" if is_small else "real", folder, live)
            stage = self._stage(self._town, memory.copy(), chance, is_small=is_small)
        else:
            stage = self._stage(self._town, RelayMemory(), chance, is_small=is_small)
            knows_terms = chance.random() < _KNOWING_SHARE
            await self._town.make_relay(folder, stage.call if knows_terms else None)
        stage.sabotage = self._sabotage
        if chance.random() < _WORKERS_SHARE:
            make_certificate(folder)
            stage.filers.clients.tls = client_context()
        return stage

    async def _ending(self, town: Town, folder: Path, chance: random.Random) -> RelayStage:
        """A relay whose call is over in a few seconds, and some of them drop its ledger then."""
        now = SystemClock().now()
        repair_by = UnixMillis(now + chance.randint(*_ENDING_MS))
        stage = self._stage(town, RelayMemory(), chance, is_small=True, repair_by=repair_by)
        stage.filers.clients.takes_until, stage.setup = repair_by, _ENDING_SETUP
        if chance.random() < _DROPPING_SHARE:
            stage.drops_at, stage.setup = repair_by + HOLD_MS + KEPT_MS, _DROPPING_SETUP
        await town.make_relay(folder, stage.call)
        return stage

    async def _live(self, town: Town, folder: Path, *, is_small: bool) -> RelayMemory:
        """A relay after one undisturbed life."""
        stage = self._stage(town, RelayMemory(life=1), random.Random(0), is_small=is_small)
        await town.make_relay(folder, stage.call)
        memory = stage.filers.clients.memory
        launch = stage.launch(folder, folder.with_suffix(".log"))
        async with serving(launch, self._warm) as port, asyncio.TaskGroup() as group:
            load = group.create_task(stage.load(port, random.Random(1)))
            async with asyncio.timeout(_LIVED_S):
                while len(memory.held) < _LIVED_COUNT:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(_LOOK_S)
            load.cancel()
        # What was told in a life that is over is known, whatever is sent in the next.
        memory.life += 1
        return memory

    def _stage(
        self,
        town: Town,
        memory: RelayMemory,
        chance: random.Random,
        *,
        is_small: bool,
        repair_by: UnixMillis | None = None,
    ) -> RelayStage:
        call = town.begin_run(repair_by=repair_by)
        clients = RelayClients(call.origin, call.collect_key, memory)
        filers = Filers(
            clients,
            small=town.small if is_small else [*town.small, *town.large],
            large=town.large if is_small else town.huge,
        )
        return RelayStage(
            town,
            call,
            filers,
            random.Random(chance.random()),
            Operator(call.origin),
            setup=_SMALL_SETUP if is_small else "",
        )

    async def close(self) -> None:
        """End the destination."""
        self._stack.close()
