"""Proves the evidence: every file that filers and destination hold, by ``bistro verify`` alone.

Where the machine allows it the programs run without any network, not even loopback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from bistro.protocol.deadline import latest_on_time
from tests.e2e.demo.cast import Finished, without_network
from tests.e2e.demo.promises import Promise
from tests.e2e.demo.stage import Stage
from tests.e2e.demo.story import Story

_REFUSED: Final = 3
EVIDENCE: Final = "evidence.json"
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
        verifier = Verifier(self.stage, prefix)
        own = {x.label: x.folder.evidence if x.folder else None for x in self.story.on_time}
        theirs = {x.label: x.inbox / EVIDENCE if x.inbox else None for x in self.story.on_time}
        async with asyncio.TaskGroup() as group:
            own_faults = group.create_task(verifier.faults(own, _OWN_PARTS))
            their_faults = group.create_task(verifier.faults(theirs, _INBOX_PARTS))
            attempt = group.create_task(self._late(verifier))
        for one in self.story.on_time:
            one.is_own_evidence_good = one.label not in own_faults.result()
            one.is_inbox_evidence_good = one.label not in their_faults.result()
        how = "with no network at all" if prefix else "with no network used"
        for promise, faults in (
            (Promise.FILERS_EVIDENCE, own_faults.result()),
            (Promise.INBOX_EVIDENCE, their_faults.result()),
        ):
            said = [f"{name}: {fault}" for name, fault in faults.items()]
            detail = f"{len(own)} files by `bistro verify`, {how}"
            self.story.verdicts.examined(promise, said, detail)
        self.story.verdicts.examined(
            Promise.LATE, attempt.result(), "no ticket, exit code 3, refusal and evidence verify"
        )

    async def _late(self, verifier: Verifier) -> list[str]:
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
        files = {"refusal": late.folder.refusal, "evidence": late.folder.evidence}
        found = await verifier.faults(files, frozenset({"refusal"}))
        return faults + [f"{name}: {fault}" for name, fault in found.items()]


@dataclass(frozen=True, slots=True)
class Verifier:
    """Runs ``bistro verify`` as a stranger would who was given nothing but the terms key."""

    stage: Stage
    prefix: tuple[str, ...]

    async def faults(
        self, files: Mapping[str, Path | None], parts: frozenset[str]
    ) -> dict[str, str]:
        """What is wrong with each file that does not verify, or does not show all ``parts``."""
        present = {name: path for name, path in files.items() if path is not None and path.exists()}
        finished = await self.stage.cast.run(
            *("bistro", "verify", *map(str, present.values()), "--json"),
            *(f"--trust={self.stage.trust.format()}", f"--home={self.stage.root / 'stranger'}"),
            prefix=self.prefix,
        )
        missing = dict.fromkeys(files.keys() - present.keys(), "there is no such file")
        return missing | faults_of(finished, present, parts)


def faults_of(
    finished: Finished, files: Mapping[str, Path], parts: frozenset[str]
) -> dict[str, str]:
    """What ``bistro verify --json`` says against each of ``files``; no word is a fault too."""
    document = finished.document
    listed = cast("list[dict[str, Any]]", document.get("files", [document]))
    by_path = {one.get("file"): one for one in listed}
    faults: dict[str, str] = {}
    for name, path in files.items():
        one = by_path.get(str(path))
        if one is None:
            faults[name] = f"exit code {finished.exit_code}: {finished.stderr or finished.stdout}"
            continue
        findings = one.get("findings", [])
        shown = {x["part"] for x in findings if x["state"] == "ok"}
        if one["holds"] is not True:
            failed = [f"{x['part']}: {x['text']}" for x in findings if x["state"] == "failed"]
            faults[name] = "; ".join(failed) or str(one.get("error", "it does not hold"))
        elif not parts <= shown:
            faults[name] = f"it does not show {', '.join(sorted(parts - shown))}"
    if not faults and finished.exit_code != 0:
        return dict.fromkeys(files, f"exit code {finished.exit_code}: {finished.stderr}")
    return faults
