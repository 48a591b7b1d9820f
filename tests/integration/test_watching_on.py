"""``bistro resume --watch`` stays until everything is collected, and honours repairs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bistro.protocol.submission import SubmissionState
from bistro_client.journal import read_journal
from tests.integration.test_client_path import filing
from tests.integration.test_collecting import repairs
from tests.unit.client.commands import running_bistro

FILES = {"a.pdf": b"x" * 500_000}


async def test_watching_stages_again_what_a_relay_lost(tmp_path: Path) -> None:
    """Two of three relays vanish with all they held; the filer's program makes up for it."""
    async with filing(tmp_path) as filer:
        w = filer.w
        folder = await filer.submit(FILES)
        for name in ("anna.example", "bert.example"):
            await w.stop(name)
        await w.collect()
        w.clock.advance(3_600_000)
        await w.collect()
        assert await repairs(w)
        for name in ("anna.example", "bert.example"):
            data = w.relay_settings[name].relay.data_path
            await asyncio.to_thread(data.rename, data.with_name("lost"))
            (data.with_name("lost") / "destinations").rename(w.root / f"kept-{name}")
            data.mkdir()
            (w.root / f"kept-{name}").rename(data / "destinations")
            await w.start(name)
        watching = asyncio.ensure_future(  # noqa: TID251 - awaited below
            running_bistro("resume", "--watch", "--every", "100ms", "--home", filer.home.root)
        )
        while read_journal(folder).state is not SubmissionState.COLLECTED:
            await w.collect()
            await asyncio.sleep(0.1)
        ran = await watching
        assert ran.code == 0, ran.err
        assert "watching a submission until collected" in ran.err
        assert "asks for fragment" in ran.err


async def test_watching_ends_when_there_is_nothing_to_watch(tmp_path: Path) -> None:
    """An empty home is nothing to wait for."""
    ran = await running_bistro("resume", "--watch", "--home", tmp_path)
    assert ran.code == 0
    assert "nothing to resume" in ran.out
