"""A process that does runs, one after another, and says what they showed.

Run as ``python -m tests.crash.worker HOME SUBJECT SABOTAGE FULL_SHARE MODE KEEP``: seeds come
as lines on standard input, reports leave as lines of JSON on standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, get_args

from tests.crash.relays.subject import RelaySubject
from tests.crash.runs import Mode, RunReport, Wish, run
from tests.crash.subjects import Findings, Subject
from tests.crash.tickets.subject import TicketSubject
from tests.crash.victims import Warm

_LOOK_S: Final = 0.1
_PAUSE_S: Final = 2.0

Make = Callable[[Path, Warm, str], Subject]

SUBJECTS: Final[dict[str, tuple[tuple[str, ...], Make]]] = {
    TicketSubject.name: (
        TicketSubject.modules,
        lambda templates, warm, sabotage: TicketSubject(templates, warm, sabotage=sabotage),
    ),
    RelaySubject.name: (
        RelaySubject.modules,
        lambda templates, warm, sabotage: RelaySubject(templates, warm, sabotage=sabotage),
    ),
}
"""By name: what a warm process imports, and what makes the subject."""


def encode_report(report: RunReport) -> bytes:
    """One line."""
    facts = {one.name: getattr(report, one.name) for one in fields(report)}
    facts["findings"] = {"faults": report.findings.faults, "counts": report.findings.counts}
    return json.dumps(facts).encode() + b"\n"


def decode_report(line: bytes) -> RunReport:
    """What ``encode_report`` made."""
    facts: dict[str, Any] = json.loads(line)
    found = facts.pop("findings")
    findings = Findings(found["faults"], Counter(found["counts"]))
    for name in ("deaths", "hits"):
        facts[name] = Counter(facts[name])
    return RunReport(findings=findings, **facts)


async def _run(seed: int, subject: Subject, warm: Warm, wish: Wish, home: Path) -> RunReport:
    try:
        async with _noticing_pauses() as pauses:
            report = await run(seed, subject, warm, wish, home)
        if pauses and (report.findings.faults or report.problem):
            # Whoever had no processor for so long has let time limits pass: it is done again,
            # and what it left is kept beside.
            shutil.move(report.folder, home / f"paused-{seed}")
            report = await run(seed, subject, warm, wish, home)
    except Exception:  # noqa: BLE001 - a bug of the campaign is shown, and the next run done
        return RunReport(seed, problem=traceback.format_exc())
    return report


@contextlib.asynccontextmanager
async def _noticing_pauses() -> AsyncIterator[list[float]]:
    """Seconds for which this process stood still during the block, if they were many."""
    pauses: list[float] = []

    async def look() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_LOOK_S)
            if (late := time.monotonic() - before - _LOOK_S) > _PAUSE_S:
                pauses.append(late)

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        try:
            yield pauses
        finally:
            looking.cancel()


async def _work(home: Path, subject_name: str, sabotage: str, wish: Wish) -> None:
    # What is opened and checked in this process prints what it does: nobody reads that.
    reports, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    modules, make = SUBJECTS[subject_name]
    warm = await Warm.start(modules)
    try:
        subject = make(home / "templates", warm, sabotage)
        try:
            while line := await asyncio.to_thread(sys.stdin.readline):
                os.write(reports, encode_report(await _run(int(line), subject, warm, wish, home)))
        finally:
            await subject.close()
    finally:
        await warm.close()


if __name__ == "__main__":
    home_text, name, sabotage_name, share_text, mode_text, keep_text = sys.argv[1:]
    mode = next(one for one in get_args(Mode) if one == mode_text)
    wanted = Wish(full_share=float(share_text), mode=mode, keep=keep_text == "keep")
    asyncio.run(_work(Path(home_text), name, sabotage_name, wanted))
