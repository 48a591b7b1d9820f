"""One performance from the first process to the last verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bistro.clock import SystemClock
from bistro.errors import BistroError
from tests.e2e.demo.companions import PerformanceError
from tests.e2e.demo.examining import Examiner
from tests.e2e.demo.filings import FILERS, Filing, Shape, plan, write
from tests.e2e.demo.promises import shortened
from tests.e2e.demo.proving import Prover
from tests.e2e.demo.sabotage import Sabotage, spoil
from tests.e2e.demo.scenes import Scenes
from tests.e2e.demo.stage import RELAYS, SERVER, Stage, build_stage, kernel_clock
from tests.e2e.demo.story import FilingStory, Story

BeginScene = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be played.

    Attributes:
        root: An empty folder for everything.
        seed: Of the filings.
        shape: How many there are, and when.
        sabotage: What is broken on purpose, to see that it is found.
        begin: Told the title of each scene.
        tell: Told what happens in it.
    """

    root: Path
    seed: int
    shape: Shape
    sabotage: frozenset[Sabotage]
    begin: BeginScene
    tell: Callable[[str], None]


async def perform(order: Order) -> Story:
    """Play all scenes and examine all promises; the story with its verdicts.

    If it cannot go on, the story says why, and what was not examined is broken. Nothing is left
    running in any case.
    """
    clock = SystemClock()
    clock_plan = kernel_clock()
    order.begin("Prepare")
    order.tell(clock_plan.statement)
    filings = plan(order.seed, order.shape)
    await asyncio.to_thread(_write_all, order, filings)
    size = sum(filing.size for filing in filings)
    order.tell(f"{len(filings)} filings, {size / 1e6:.1f} MB, from seed {order.seed}")
    async with build_stage(order.root, clock, clock_plan) as stage:
        story = Story(
            seed=order.seed,
            clock_statement=clock_plan.statement,
            is_clock_assumed=clock_plan.is_assumed,
            meter=stage.meter,
            destination=SERVER,
            relays=RELAYS,
            filings=[_story_of(order, filing) for filing in filings],
            began_at=clock.now(),
        )
        try:
            await _play(order, stage, story)
        except* (PerformanceError, BistroError) as failures:
            story.accident = shortened("; ".join(_messages(failures)))
            order.tell(f"this cannot go on: {story.accident}")
        story.ended_at = clock.now()
        return story


async def _play(order: Order, stage: Stage, story: Story) -> None:
    scenes, examiner = Scenes(stage, story, order.tell), Examiner(stage, story)

    async def sabotage(after: str) -> None:
        for kind in sorted(order.sabotage):
            if kind.after == after:
                order.tell(await asyncio.to_thread(spoil, kind, stage, story))

    order.begin("Open a call")
    await asyncio.to_thread(examiner.sources)
    await scenes.open_call(closes_s=order.shape.closes_s)
    order.begin("The rush")
    await scenes.rush()
    await sabotage("staging")
    order.begin("What relays hold")
    await examiner.relays_that_hold()
    order.begin("The deadline")
    await scenes.come_late()
    order.begin("Collect")
    await scenes.collect()
    await examiner.collected()
    order.begin("Open")
    await scenes.open_at_last()
    await sabotage("opening")
    await examiner.outcome()
    order.begin("Verify")
    await Prover(stage, story).evidence()
    await examiner.daemons()
    await examiner.relays_unreadable("after it")


def _messages(failures: BaseExceptionGroup[Exception]) -> Iterator[str]:
    for one in failures.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _messages(one)
        else:
            yield str(one)


def _write_all(order: Order, filings: tuple[Filing, ...]) -> None:
    for filing in filings:
        write(filing, _source(order, filing), seed=order.seed)


def _source(order: Order, filing: Filing) -> Path:
    return order.root / "sources" / f"{filing.number:02d}"


def _story_of(order: Order, filing: Filing) -> FilingStory:
    home = order.root / "filers" / FILERS[filing.filer]
    return FilingStory(filing=filing, source=_source(order, filing), home=home)
