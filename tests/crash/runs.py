"""One run: a service is set up, lives and dies several times, and is asked what it promised.

Everything that is decided by chance is decided by the seed. What a seed cannot decide is how
far a process has come when it dies: a run with the same seed makes the same plan.
"""

from __future__ import annotations

import random  # noqa: TID251 - seeded
import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tests.crash.cuts import Recording, draw_cuts
from tests.crash.deaths import Death, draw
from tests.crash.lives import NotServingError, Plan, live, serving
from tests.crash.order import entries_in, examine
from tests.crash.replaying import UnexplainedError
from tests.crash.subjects import Findings, Stage, Subject
from tests.crash.traces import Event, read_events
from tests.crash.victims import CampaignError, Warm

_CUTS: Final = 4
_CUT_SHARE: Final = 0.3
_WHOLE_SHARE: Final = 0.5
_NAMES_SHARE: Final = 0.6
_AGAIN_SHARE: Final = 0.4
"""So many of those who survived a power cut die again, half of them by another one."""


Mode = Literal["mixed", "kill", "cut"]


@dataclass(frozen=True, slots=True)
class Wish:
    """Which runs are wanted.

    Attributes:
        full_share: Of all runs, how many start processes from nothing.
        mode: ``mixed``, ``kill`` (no power cuts) or ``cut`` (nothing else).
        keep: Whether folders of good runs are kept, too.
    """

    full_share: float = 0.1
    mode: Mode = "mixed"
    keep: bool = False


@dataclass
class RunReport:
    """What a run has shown.

    Attributes:
        seed: It can be asked for again.
        kind: ``warm`` or ``full``.
        steps: Every life and cut, in words.
        deaths: Lives by way to die.
        hits: Of those, in how many the death struck.
        findings: Faults and counts.
        problem: Why the run says nothing: the campaign failed.
        took_s: How long it took.
        folder: Where it is kept, if it is.
    """

    seed: int
    kind: str = "warm"
    steps: list[str] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    problem: str = ""
    took_s: float = 0.0
    folder: str = ""


async def run(seed: int, subject: Subject, warm: Warm, wish: Wish, home: Path) -> RunReport:
    """Do the run of a seed below ``home``; what is good is deleted."""
    report, began = RunReport(seed), time.monotonic()
    folder = home / f"run-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chance = random.Random(seed)
    if chance.random() < wish.full_share:
        report.kind = "full"
    one = _Run(folder, subject, None if report.kind == "full" else warm, warm, chance, report)
    try:
        await one.perform(wish.mode)
    except (CampaignError, NotServingError, UnexplainedError, ValueError) as exc:
        report.problem = f"{type(exc).__name__}: {exc}"
    report.took_s = time.monotonic() - began
    if report.findings.faults or report.problem or wish.keep:
        report.folder = str(folder)
        (folder / "report.txt").write_text(_text(report), encoding="utf-8")
    else:
        shutil.rmtree(folder)
    return report


def _text(report: RunReport) -> str:
    lines = [f"seed {report.seed}, {report.kind}", *report.steps, *report.findings.faults]
    return "\n".join([*lines, report.problem, ""])


@dataclass
class _Run:
    """A run under way.

    Attributes:
        victims: Forks those that die; ``None``: they start from nothing.
        warm: Forks those that only check.
    """

    folder: Path
    subject: Subject
    victims: Warm | None
    warm: Warm
    chance: random.Random
    report: RunReport

    async def perform(self, mode: Mode) -> None:
        """Lives and deaths, then the checks."""
        place = self.folder / "service"
        is_warm = self.victims is not None
        stage = await self.subject.prepare(place, self.chance, is_warm=is_warm)
        cuts = mode == "cut" or (mode == "mixed" and self.chance.random() < _CUT_SHARE)
        count = self.chance.choice((1, 1, 2, 3))
        if cuts:
            lives = self.chance.choice((1, 2, 2, 3))
            await self._cut_lives(stage, place, "", lives=lives, cuts=_CUTS)
        else:
            for number in range(1, count + 1):
                await self._life(stage, place, str(number), None)
        await self._check(stage, place, "end")

    async def _life(
        self,
        stage: Stage,
        place: Path,
        name: str,
        trace: Path | None,
        *,
        amid_names: bool = False,
    ) -> None:
        serving_s = self.chance.uniform(*stage.serving_s)
        log = self.folder / f"life-{name}.log"
        command = stage.command(place, log, self.chance)
        death = draw(
            self.chance,
            is_warm=self.victims is not None,
            serving_s=serving_s,
            amid_names=amid_names,
            serves=command is None,
        )
        if not amid_names and trace is not None and self.chance.random() < _WHOLE_SHARE:
            # The cuts are what kills here: the longer the life, the more there are to choose.
            death = Death("kill", after_s=serving_s * 0.9)
        stage.begin_life(place)
        plan, launch = Plan(death, serving_s, trace), command or stage.launch(place, log)
        facts = await live(launch, self.victims, plan, stage.load, self.chance)
        if command is not None:
            stage.command_ended(facts.status)
        label = death.label + (", command" if command is not None else "")
        label += ", traced" if trace is not None else ""
        self.report.deaths[label] += 1
        self.report.hits[label] += facts.was_hit
        self.report.steps.append(
            f"life {name}{'' if command is None else f' of {command.arguments}'}: "
            f"{death.describe()}; hit: {facts.was_hit}, served: "
            f"{facts.has_served}, status {facts.status}, {stage.promise_count} promises"
        )

    async def _cut_lives(
        self, stage: Stage, place: Path, name: str, *, lives: int, cuts: int
    ) -> None:
        """Traced lives; the power fails at several moments of each."""
        base, target = self.folder / f"base{name}", self.folder / f"cuts{name}"
        shutil.copytree(place, base, ignore=shutil.ignore_patterns("*.sock"))
        recording = Recording(place, base)
        for number in range(1, lives + 1):
            life, trace = f"{name}.{number}".lstrip("."), self.folder / f"trace{name}.{number}"
            earlier = entries_in(place)
            # What one life leaves half named, the next one must not rely on.
            amid_names = number < lives and self.chance.random() < _NAMES_SHARE
            await self._life(stage, place, life, trace, amid_names=amid_names)
            with trace.open(encoding="ascii", errors="replace") as lines:
                events = read_events(lines)
            self._examine(events, earlier, stage.own)
            target.mkdir(exist_ok=True)
            wanted = draw_cuts(events, self.chance, max(1, cuts // lives))
            for cut, folder in recording.cuts(events, wanted, target=target, chance=self.chance):
                known = stage.at_cut(cut.left)
                label = f"power cut, lost: {cut.loss}"
                self.report.deaths[label] += 1
                self.report.hits[label] += 1
                self.report.steps.append(
                    f"{folder.name} of {len(events)} events of life {life}: the power fails, lost "
                    f"of what was not durable: {cut.loss}; {known.promise_count} promises"
                )
                if not await self._survives(known, folder, f"{life}.{cut.at}", cuts):
                    return  # with the folder as it is
                shutil.rmtree(folder)
            recording.settle()
            if stage.at_cut(recording.left).promise_count != stage.promise_count:
                raise UnexplainedError("clients have promises that were never seen leaving")
            if not self.report.findings.faults:
                trace.unlink()
        shutil.rmtree(base)

    def _examine(
        self, events: Sequence[Event], earlier: set[bytes], own: re.Pattern[bytes]
    ) -> None:
        order = examine(events, earlier, own)
        self.report.findings.counts["answers after their sync"] += order.promises
        self.report.findings.faults += [
            f"an answer left before its sync: {entry!r}" for entry in order.early[:3]
        ]

    async def _survives(self, stage: Stage, place: Path, name: str, cuts: int) -> bool:
        """Whether a server finds everything after a cut; some die again before, or are cut."""
        faults, dice = len(self.report.findings.faults), self.chance.random()
        if cuts > 1 and dice < _AGAIN_SHARE / 2:
            await self._cut_lives(stage, place, f".{name}", lives=1, cuts=1)
        elif dice < _AGAIN_SHARE:
            await self._life(stage, place, name, None)
        if len(self.report.findings.faults) == faults:
            await self._check(stage, place, name)
        return len(self.report.findings.faults) == faults

    async def _check(self, stage: Stage, place: Path, name: str) -> None:
        launch = stage.launch(place, self.folder / f"check-{name}.log")
        found, before = self.report.findings, len(self.report.findings.faults)
        stage.begin_life(place)
        try:
            async with serving(launch, self.victims) as port:
                found.add(await stage.check(port, self.chance))
        except NotServingError as exc:
            found.faults.append(f"{name}: it does not serve again: {exc}")
        else:
            if self.victims is None or self.chance.random() < stage.at_rest_share:
                found.add(await stage.check_at_rest(place, is_full=self.victims is None))
        if len(found.faults) > before:
            self.report.steps.append(f"faults at check {name}, folder {place}")
