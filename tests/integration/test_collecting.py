"""Collecting from real relays, in the order of a call's life."""

from __future__ import annotations

from pathlib import Path

from tests.support.world import world


async def test_what_relays_hold_becomes_an_envelope_and_is_released(tmp_path: Path) -> None:
    """Staged, fetched, verified, restored, durable, released: once and whole."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        done = await found.collect()
        assert done.progress.collected_count == 1
        assert done.progress.unreleased_count == 0
        path = found.site.call.folder.envelopes
        (envelope,) = path.glob("*/*.age")
        assert envelope.read_bytes() == filing.envelope
        found.pass_stage_by()
        opened = await found.open()
        assert opened.counts == {"opened": 1}
        assert found.outcome(filing) == ("opened", [])
