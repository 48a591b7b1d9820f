"""One life of the filer's program: started with its own command line, and killed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.crash.deaths import Death
from tests.crash.victims import Launch, Victim, Warm
from tests.support.town import environment

LONGEST_S: Final = 240.0
_WATCH_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Life:
    """How it went: its exit status, negative for a signal, and what it printed."""

    status: int
    log: Path

    @property
    def was_killed(self) -> bool:
        return self.status < 0


async def live(
    arguments: Sequence[object], warm: Warm, log: Path, death: Death | None = None
) -> Life:
    """Run ``bistro`` with these arguments until it ends or dies.

    Raises:
        CampaignError: It could not be started or traced, or does not end.
    """
    launch = Launch(
        program="bistro_client.cli:main",
        command=[],
        arguments=[str(one) for one in arguments],
        environment=environment(),
        log=log,
    )
    victim = await Victim.start(launch, warm, death)
    trace = log.with_suffix(".strace")
    try:
        if death is not None and death.injection is not None:
            names = death.injection.partition(":")[0]
            options = ("-e", "signal=none", "-s", "0", "-e", f"inject={death.injection}")
            await victim.trace(trace, *options, "-e", f"trace={names}")
        victim.go()
        if death is not None:
            await _kill(victim, death, trace)
        return Life(await victim.ended(LONGEST_S), log)
    finally:
        victim.kill()


async def _kill(victim: Victim, death: Death, trace: Path) -> None:
    """Kill it when its time has come, unless it ends before."""
    if death.way == "kill":
        await asyncio.wait([victim.status], timeout=death.after_s)
        victim.kill()
    while death.way == "kill-after" and not victim.status.done():
        if await asyncio.to_thread(_is_held, trace):
            victim.kill()
            return
        await asyncio.wait([victim.status], timeout=_WATCH_S)


def _is_held(trace: Path) -> bool:
    """Whether strace holds the client behind the call, which was executed."""
    return trace.exists() and b"(DELAYED)" in trace.read_bytes()
