"""Proves the evidence: every file that filers and destination hold, by ``bistro verify`` alone.

Where the machine allows it the programs run without any network, not even loopback.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.protocol.deadline import latest_on_time
from tests.e2e.demo.cast import Finished, without_network
from tests.e2e.demo.promises import Promise
from tests.e2e.demo.stage import Stage
from tests.e2e.demo.story import Story

_REFUSED: Final = 3
_AT_ONCE: Final = 3
_OWN_PARTS: Final = frozenset(
    ("ticket", "manifest", "receipts", "closed", "opening", "status", "outcome", "minutes")
)
"""What a filer's evidence must show in the end, beside what no evidence can be without."""
_INBOX_PARTS: Final = frozenset(("ticket", "manifest", "closed", "opening"))


@dataclass(slots=True)
class Prover:
    """Verifies all evidence and writes the verdicts into the story."""

    stage: Stage
    story: Story

    async def evidence(self) -> None:
        """Verify every evidence file there is, without network where that can be had."""
        prefix = await without_network()
        self.story.verified_without_network = bool(prefix)
        verifier = _Verifier(self.stage, prefix, asyncio.Semaphore(_AT_ONCE))
        async with asyncio.TaskGroup() as group:
            own = {
                one.label: group.create_task(
                    verifier.verify(one.folder.evidence if one.folder else None, _OWN_PARTS)
                )
                for one in self.story.on_time
            }
            theirs = {
                one.label: group.create_task(
                    verifier.verify(one.inbox and one.inbox / "evidence.json", _INBOX_PARTS)
                )
                for one in self.story.on_time
            }
            attempt = group.create_task(self._late(verifier))
        for one in self.story.on_time:
            one.is_own_evidence_good = own[one.label].result() is None
            one.is_inbox_evidence_good = theirs[one.label].result() is None
        how = "with no network at all" if prefix else "with no network used"
        for promise, results in ((Promise.FILERS_EVIDENCE, own), (Promise.INBOX_EVIDENCE, theirs)):
            faults = [f"{name}: {task.result()}" for name, task in results.items() if task.result()]
            detail = f"{len(results)} files by `bistro verify`, {how}"
            self.story.verdicts.examined(promise, faults, detail)
        self.story.verdicts.examined(
            Promise.LATE, attempt.result(), "no ticket, exit code 3, refusal and evidence verify"
        )

    async def _late(self, verifier: _Verifier) -> list[str]:
        late, terms = self.story.late, self.story.terms
        faults: list[str] = []
        if late.exits != [_REFUSED]:
            faults.append(f"expected exit code 3, found {late.exits}: {late.said[-300:]}")
        if late.ticket is not None:
            faults.append("it has a ticket")
        if late.refusal is None or late.folder is None:
            return [*faults, f"it has no signed refusal: {late.said[-300:]}"]
        if terms is None or late.refusal.time <= latest_on_time(terms):
            faults.append("its refusal is of a time before the deadline")
        for file in (late.folder.refusal, late.folder.evidence):
            fault = await verifier.verify(file, frozenset({"refusal"}))
            faults += [f"{file.suffix}: {fault}"] if fault else []
        return faults


@dataclass(frozen=True, slots=True)
class _Verifier:
    """Runs ``bistro verify`` as a stranger would who was given nothing but the terms key."""

    stage: Stage
    prefix: tuple[str, ...]
    slots: asyncio.Semaphore

    async def verify(self, file: Path | None, parts: frozenset[str]) -> str | None:
        """None if the file verifies and shows all ``parts``; what is wrong otherwise."""
        if file is None or not file.exists():  # noqa: ASYNC240 - nothing else runs meanwhile
            return "there is no such file"
        async with self.slots:
            finished = await self.stage.cast.run(
                *("bistro", "verify", str(file), f"--trust={self.stage.trust.format()}"),
                *("--json", f"--home={self.stage.root / 'stranger'}"),
                prefix=self.prefix,
            )
        if finished.exit_code != 0:
            return f"exit code {finished.exit_code}: {_failed(finished)}"
        missing = parts - set(_parts(finished, "ok"))
        return f"does not show {', '.join(sorted(missing))}" if missing else None


def _findings(finished: Finished) -> list[dict[str, object]]:
    found = finished.document.get("findings")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _parts(finished: Finished, state: str) -> list[str]:
    return [str(one["part"]) for one in _findings(finished) if one["state"] == state]


def _failed(finished: Finished) -> str:
    failed = [f"{x['part']}: {x['text']}" for x in _findings(finished) if x["state"] == "failed"]
    return "; ".join(failed) or (finished.stderr or finished.stdout)[-300:]
