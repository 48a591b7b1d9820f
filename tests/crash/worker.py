"""A process that does runs, one after another, and says what they showed.

Run as ``python -m tests.crash.worker HOME SUBJECT SABOTAGE FULL_SHARE MODE KEEP``: seeds come
as lines on standard input, reports leave as lines of JSON on standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, get_args

from tests.crash.relays.subject import RelaySubject
from tests.crash.runs import Mode, RunReport, Wish, run
from tests.crash.subjects import Findings, Subject
from tests.crash.tickets.subject import TicketSubject
from tests.crash.victims import Warm

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
        return await run(seed, subject, warm, wish, home)
    except Exception:  # noqa: BLE001 - a bug of the campaign is shown, and the next run done
        return RunReport(seed, problem=traceback.format_exc())


async def _work(home: Path, subject_name: str, sabotage: str, wish: Wish) -> None:
    modules, make = SUBJECTS[subject_name]
    warm = await Warm.start(modules)
    try:
        subject = make(home / "templates", warm, sabotage)
        try:
            while line := await asyncio.to_thread(sys.stdin.readline):
                os.write(1, encode_report(await _run(int(line), subject, warm, wish, home)))
        finally:
            await subject.close()
    finally:
        await warm.close()


if __name__ == "__main__":
    home_text, name, sabotage_name, share_text, mode_text, keep_text = sys.argv[1:]
    mode = next(one for one in get_args(Mode) if one == mode_text)
    wanted = Wish(full_share=float(share_text), mode=mode, keep=keep_text == "keep")
    asyncio.run(_work(Path(home_text), name, sabotage_name, wanted))
