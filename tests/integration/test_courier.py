"""What ``bistro seal`` writes is enough for somebody who has never heard of Bistro."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import aiotus

from bistro.net.session import Session
from bistro.protocol.submission import Step, SubmissionState
from bistro_client.courier import hand_out
from bistro_client.evidence_file import load_terms
from bistro_client.home import Home
from bistro_client.patience import Patience
from bistro_client.submitting import Submitter, Wish
from tests.support.world import world
from tests.unit.client.relays import served
from tests.unit.client.worlds import Wire


async def test_a_tus_client_stages_what_was_sealed(tmp_path: Path) -> None:
    """Any k fragments, with a header field from the list; the destination finds them itself."""
    async with world(tmp_path) as w, Session() as session:
        wire = Wire(w.site.base_url, w.clock)
        async with served(wire.app()) as wire.url:
            home, out = Home(tmp_path / "home"), tmp_path / "kit"
            (tmp_path / "report.pdf").write_bytes(b"report" * 50_000)
            patience = Patience(w.clock, limit_ms=30_000)
            submitter = Submitter(home, session, clock=w.clock, patience=patience)
            wish = Wish(paths=(tmp_path / "report.pdf",), url=wire.url)
            submission = await submitter.submit(wish, until=Step.UPLOAD)
            assert submission.state is SubmissionState.TICKETED
            folder = home.folder(submission.id)
            hand_out(folder, submission, load_terms(folder)[-1].signed.terms, out)

            kit = json.loads((out / "uploads.json").read_bytes())
            assert len(kit["fragments"]) > kit["needed"]
            for one in kit["fragments"][-kit["needed"] :]:
                key, value = one["headers"]["Upload-Metadata"].split(" ")
                with (out / one["file"]).open("rb") as file:
                    assert file.seek(0, 2) == one["size"]
                    metadata = {key: base64.b64decode(value)}
                    assert await aiotus.upload(one["endpoint"], file, metadata) is not None

            await w.collect()
            looked = await submitter.look(folder)
            assert looked.state is SubmissionState.COLLECTED
