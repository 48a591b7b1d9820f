"""One run: a filer submits, the program is killed again and again, and goes on each time."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError
from bistro.protocol.submission import Submission, SubmissionState
from bistro_client.home import Folder, Home
from bistro_client.journal import read_journal
from bistro_client.verifying import Trust, verify_file
from tests.crash.victims import CampaignError, Warm
from tests.kills.lives import Life, live
from tests.kills.plans import Plan, draw, write_files
from tests.support.town import Town

_TAIL: Final = 1_500


@dataclass
class Report:
    """What one run has shown.

    Attributes:
        deaths: Lives by way to die.
        hits: Of those, in how many the client died of it.
        states: What the journal said after each death.
        commitment: Of the submission at the end, hexadecimal.
        manifest: SHA-256 of each file, by the path in the filing.
        faults: Promises that were broken, in words.
        problem: Why it shows nothing.
    """

    seed: int
    deaths: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    commitment: str = ""
    manifest: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """What a journal held that may never change again."""

    commitment: bytes
    ticket: str | None
    spool: dict[str, str]


async def run(seed: int, town: Town, warm: Warm, root: Path, *, sabotage: str = "") -> Report:
    """Do the run of a seed below ``root``; what is good is deleted."""
    plan, report = draw(seed), Report(seed)
    folder = root / f"run-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    one = _Run(plan, town, warm, folder, report, sabotage)
    try:
        await one.perform()
    except (CampaignError, TimeoutError) as exc:
        # The second where the machine stood still: it says nothing about the client.
        report.problem = str(exc) or type(exc).__name__
    if not report.faults and not report.problem:
        shutil.rmtree(folder)
    return report


@dataclass
class _Run:
    plan: Plan
    town: Town
    warm: Warm
    folder: Path
    report: Report
    sabotage: str
    known: _Known | None = None

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    async def perform(self) -> None:
        files = self.folder / "filing"
        write_files(self.plan, files)
        self.report.manifest = {
            f"filing/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(files.iterdir())
        }
        for number, death in enumerate(self.plan.deaths):
            life = await live(self._command(), self.warm, self._log(number), death)
            self.report.deaths[death.label] += 1
            self.report.hits[death.label] += life.was_killed
            if not life.was_killed:
                self._require_done(life)
                break
            self._look()
            if self.sabotage == "forget" and self.home.folders():
                shutil.rmtree(self.home.submissions)
                self.known = None
        life = await live(self._command(), self.warm, self._log(len(self.plan.deaths)))
        self._require_done(life)
        self._require_whole()

    def _command(self) -> list[object]:
        """What a filer types: to submit until there is something to resume."""
        always = ("--home", self.home.root, "--patience", "150s")
        if self.home.folders():
            return ["resume", *always]
        where = ("--to", self.town.server.url, "--call", "spring")
        return ["submit", self.folder / "filing", *where, *always]

    def _log(self, number: int) -> Path:
        return self.folder / f"life-{number}.log"

    def _require_done(self, life: Life) -> None:
        if life.status != 0:
            text = life.log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
            self.report.faults.append(f"it ended with {life.status}: {text}")

    def _look(self) -> None:
        """What is on disk after a death: nothing that was sealed may ever be another."""
        folders = self.home.folders()
        if not folders:
            self.report.states["none"] += 1
            return
        try:
            submission = read_journal(folders[0])
        except BistroError as exc:
            self.report.faults.append(f"a kill damaged the journal: {exc.message}")
            return
        self.report.states[submission.state.value] += 1
        if submission.sealed is not None:
            found = _Known(submission.sealed.commitment, submission.ticket, _hashes(folders[0]))
            self._compare(found)
            self.known = found

    def _compare(self, found: _Known) -> None:
        known = self.known
        if known is None:
            return
        if known.commitment != found.commitment:
            self.report.faults.append("it was sealed again")
        if known.ticket not in {None, found.ticket}:
            self.report.faults.append("the ticket is another")
        if known.spool != found.spool:
            self.report.faults.append("the fragments are others")

    def _require_whole(self) -> None:
        folders = self.home.folders()
        if len(folders) != 1:
            self.report.faults.append(f"expected one submission, found {len(folders)}")
            return
        folder = folders[0]
        submission = read_journal(folder)
        self._require_staged(submission)
        if submission.sealed is not None:
            self.report.commitment = submission.sealed.commitment.hex()
            spool = _hashes(folder)
            self._compare(_Known(submission.sealed.commitment, submission.ticket, spool))
        trust = Trust(given=[VerifierKey.parse(self.town.vkey)])
        if not verify_file(folder.evidence, trust).holds:
            self.report.faults.append("the evidence does not verify")
        # A folder that was never begun goes by itself, when nobody can be about to begin it.
        places = (folder.path, self.home.keys)
        left = [str(path) for place in places for path in place.rglob("*.tmp")]
        if left:
            self.report.faults.append(f"temporary files are left: {', '.join(left)}")

    def _require_staged(self, submission: Submission) -> None:
        if submission.state is not SubmissionState.STAGED:
            self.report.faults.append(f"expected it staged, found {submission.state}")
        for one in submission.fragments:
            if one.receipt is None or not one.is_presented or one.lost:
                self.report.faults.append(f"fragment {one.index}: no receipt that was taken")


def _hashes(folder: Folder) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.spool.glob("*.fragment"))
    }
