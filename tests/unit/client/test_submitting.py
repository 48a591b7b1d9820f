"""From files to staged, against a real destination and relays that keep their promises."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bistro.protocol.submission import SubmissionState
from bistro_client.verifying import Trust, verify_file
from tests.unit.client.worlds import sealed_of, ticket_of, world


async def test_a_filing_is_ticketed_and_staged(tmp_path: Path) -> None:
    """All fragments are at relays of different operators, and everything verifies offline."""
    async with world(tmp_path) as w:
        done = await w.submitter().submit(w.wish(w.files(2_000, 300_000)))
        assert done.state is SubmissionState.STAGED
        assert [len(names) for names in w.held.values()] == [1, 1, 1]
        assert {names[0] for names in w.held.values()} == {relay.name for relay in w.relays}
        folder = w.only_folder()
        assert "on-time" in w.listener.keys
        assert "staged" in w.listener.keys
        trust = Trust(given=[w.destination.terms.keys.terms])
        for path in (folder.evidence, folder.ticket, *folder.receipts.iterdir()):
            verdict = verify_file(path, trust)
            assert verdict.holds, verdict.report


async def test_many_submissions_at_once_share_key_and_pins(tmp_path: Path) -> None:
    """A first key is made once; each submission has its own ticket and folder."""
    async with world(tmp_path) as w:
        submitter = w.submitter()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(submitter.submit(w.wish(slot=f"lot-{number}")))
                for number in range(8)
            ]
        done = [task.result() for task in tasks]
        assert {one.state for one in done} == {SubmissionState.STAGED}
        assert len({sealed_of(one).signed.header.filer_key for one in done}) == 1
        assert len({ticket_of(one) for one in done}) == 8
        assert len(w.home.folders()) == 8
        assert w.listener.keys.count("key-made") == 1
