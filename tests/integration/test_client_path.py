"""The filer's whole path with real programs: submit, collect, open, outcome, evidence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bistro.errors import DeadlinePassedError, UnavailableError
from bistro.net.session import Session
from bistro.protocol.findings import State
from bistro.protocol.submission import SubmissionState
from bistro.wire.evidence import Evidence
from bistro_client.home import Folder, Home
from bistro_client.patience import Patience
from bistro_client.submitting import Submitter, Wish
from bistro_client.verifying import Trust, Verdict, verify_file
from tests.support.world import World, world
from tests.unit.client.relays import served
from tests.unit.client.worlds import Recorder, Wire


@dataclass
class Filer:
    """A client beside a world; its wire only tells the time of the world's clock."""

    w: World
    wire: Wire
    session: Session
    listener: Recorder = field(default_factory=Recorder)

    @property
    def home(self) -> Home:
        return Home(self.w.root / "home")

    def submitter(self, *, limit_ms: int | None = 30_000) -> Submitter:
        async def sleep(seconds: float) -> None:
            self.w.clock.advance(int(seconds * 1_000))
            await asyncio.sleep(0)

        patience = Patience(self.w.clock, limit_ms=limit_ms, sleep=sleep, listener=self.listener)
        return Submitter(
            self.home,
            self.session,
            clock=self.w.clock,
            listener=self.listener,
            patience=patience,
        )

    async def submit(self, files: dict[str, bytes], **changes: Any) -> Folder:
        """Submit a folder with these files."""
        folder = self.w.root / f"filing-{len(self.home.folders())}"
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        submitter = self.submitter()
        submission = await submitter.submit(Wish(paths=(folder,), url=self.wire.url, **changes))
        assert submission.state is SubmissionState.STAGED
        return self.home.folder(submission.id)

    def verify(self, path: Path) -> Verdict:
        return verify_file(path, Trust(given=[self.w.site.terms.keys.terms]))


@contextlib.asynccontextmanager
async def filing(root: Path, **changes: Any) -> AsyncIterator[Filer]:
    async with world(root, **changes) as w, Session() as session:
        wire = Wire(w.site.base_url, w.clock)
        async with served(wire.app()) as wire.url:
            yield Filer(w, wire, session)


FILES = {"form.xml": b"<form/>", "annex/scan.png": b"\x89PNG" * 500_000}


async def test_from_files_to_an_opened_filing_with_evidence(tmp_path: Path) -> None:
    """What the filer submitted lies in the inbox, and one file proves every step offline."""
    async with filing(tmp_path) as filer:
        folder = await filer.submit(FILES, form="permit")
        w = filer.w
        await w.collect()
        looked = await filer.submitter().look(folder)
        assert looked.state is SubmissionState.COLLECTED
        assert not list(folder.spool.iterdir())
        w.pass_stage_by()
        while not w.site.server.calls.get("spring").is_closed:  # noqa: ASYNC110 - its own part
            await asyncio.sleep(0.005)
        await w.open()
        looked = await filer.submitter().look(folder)
        assert looked.state is SubmissionState.OPENED
        assert looked.outcome == "opened"
        assert looked.sealed is not None
        inbox = w.inbox / looked.sealed.commitment.hex() / "files"
        for name, data in FILES.items():
            assert (inbox / "filing-0" / name).read_bytes() == data
        verdict = filer.verify(folder.evidence)
        assert verdict.holds, verdict.report
        parts = {one.part for one in verdict.report.findings if one.state is State.OK}
        assert parts >= {
            "trust",
            "terms",
            "header",
            "manifest",
            "ticket",
            "receipts",
            "staging",
            "closed",
            "opening",
            "status",
            "outcome",
            "minutes",
            "minutes entry",
            "consistency",
        }


async def test_many_submissions_have_consistent_evidence(tmp_path: Path) -> None:
    """The log has grown since each ticket: the consistency proof is fetched and verified."""
    async with filing(tmp_path) as filer:
        folders = [
            await filer.submit({"a.txt": bytes([number])}, slot=f"lot-{number}")
            for number in range(5)
        ]
        w = filer.w
        await w.collect()
        w.pass_stage_by()
        while not w.site.server.calls.get("spring").is_closed:  # noqa: ASYNC110 - its own part
            await asyncio.sleep(0.005)
        await w.open()
        for folder in folders:
            await filer.submitter().look(folder)
            evidence = Evidence.decode(folder.evidence.read_bytes())
            assert evidence.consistency
            assert filer.verify(folder.evidence).holds


async def test_a_relay_that_dies_is_replaced(tmp_path: Path) -> None:
    """Two relays are enough; the third fragment goes to one of them."""
    async with filing(tmp_path) as filer:
        await filer.w.stop("anna.example")
        folder = await filer.submit(FILES)
        assert filer.verify(folder.evidence).holds
        names = {path.name.partition("-")[2] for path in folder.receipts.iterdir()}
        assert names == {"bert.example.receipt", "cora.example.receipt"}


async def test_staging_waits_for_relays_and_goes_on(tmp_path: Path) -> None:
    """Everything is down after the ticket; resume finishes, and the destination collects it."""
    async with filing(tmp_path) as filer:
        await filer.w.stop_all()
        with pytest.raises(UnavailableError):
            await filer.submit(FILES)
        (folder,) = filer.home.folders()
        for name in ("anna.example", "bert.example", "cora.example"):
            await filer.w.start(name)
        done = await filer.submitter().resume(folder)
        assert done.state is SubmissionState.STAGED
        await filer.w.collect()
        assert (await filer.submitter().look(folder)).state is SubmissionState.COLLECTED


async def test_late_is_refused_with_proof_of_the_attempt(tmp_path: Path) -> None:
    """The real destination's refusal verifies offline, alone and as evidence."""
    async with filing(tmp_path) as filer:
        filer.w.clock.advance(3_600_000 + 2_000)
        with pytest.raises(DeadlinePassedError):
            await filer.submit(FILES, call="spring")
        (folder,) = filer.home.folders()
        for path in (folder.refusal, folder.evidence):
            assert filer.verify(path).holds


async def test_an_unstaged_ticket_lapses_and_the_filer_hears_it(tmp_path: Path) -> None:
    """After ``stage_by`` nothing can be staged; status and outcome say so, with evidence."""
    async with filing(tmp_path) as filer:
        await filer.w.stop_all()
        with pytest.raises(UnavailableError):
            await filer.submit(FILES)
        (folder,) = filer.home.folders()
        w = filer.w
        w.pass_stage_by()
        while not w.site.server.calls.get("spring").is_closed:  # noqa: ASYNC110 - its own part
            await asyncio.sleep(0.005)
        for name in ("anna.example", "bert.example", "cora.example"):
            await w.start(name)
        await w.collect()
        await w.open()
        looked = await filer.submitter().look(folder)
        assert looked.state is SubmissionState.LAPSED
        assert filer.verify(folder.evidence).holds
