"""The demo's processes: what they said is kept, and none is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.demo.cast import Cast
from tests.e2e.demo.companions import PerformanceError
from tests.support.strategies import note_key


async def test_a_command_is_run_to_its_end_and_its_words_are_kept(tmp_path: Path) -> None:
    """Exit code, both streams and the moments around it."""
    async with Cast(tmp_path, {}).on_stage() as cast:
        finished = await cast.run("bistro", "verify", str(tmp_path / "missing"), "--json")
    assert finished.exit_code == 2
    assert "error" in finished.document
    assert finished.began_at <= finished.ended_at
    with pytest.raises(PerformanceError, match="exit code 2"):
        finished.require()


async def test_settings_of_the_caller_do_not_reach_the_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A developer's own BISTRO_HOME must not be filled with the demo's filings."""
    monkeypatch.setenv("BISTRO_HOME", "/nowhere")
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("BISTRO_SERVER_HTTP__PORT", "1")
    cast = Cast(tmp_path, {"BISTRO_RELAY_CLOCK__ASSUMED_ERROR_MS": "50"})
    environ = cast.daemon("x", "bistro", "serve").environ
    assert {name for name in environ if name.startswith("BISTRO")} == set(cast.environ)
    assert environ["HOME"] == "/somewhere"


async def test_a_daemon_that_ends_at_once_stops_the_demo_with_its_words(tmp_path: Path) -> None:
    """Nobody waits half a minute for a process that is gone."""
    async with Cast(tmp_path, {}).on_stage() as cast:
        daemon = cast.daemon("relay", "bistro-relay", "serve", f"--dir={tmp_path}")
        with pytest.raises(PerformanceError, match="relay did not start"):
            await daemon.start()
        assert await daemon.stop() == 2
        assert await daemon.stop() is None


async def test_a_client_that_stays_makes_its_key_and_tells_how_each_filing_ended(
    tmp_path: Path,
) -> None:
    """An order that cannot be carried out ends as the command would, with its exit code."""
    (tmp_path / "report.txt").write_text("x", encoding="utf-8")
    home = tmp_path / "home"
    order = {
        "number": 7,
        "at": 0,
        "paths": [str(tmp_path / "report.txt")],
        "url": "http://127.0.0.1:9",
        "call": "spring",
        "slot": "no slot!",
        "trust": note_key("permits.example").verifier.format(),
    }
    async with Cast(tmp_path, {}).on_stage() as cast:
        client = await cast.companion("filer", "python", "-m", "tests.e2e.demo.filer", str(home))
        await client.require_ready()
        assert (home / "keys" / "filer.pem").exists()
        [answer] = [one async for one in client.ask([order])]
        assert [one async for one in client.ask(None)] == []
        await client.leave()
    assert answer["number"] == 7
    assert answer["exits"] == [3]
    assert "slot" in str(answer["said"])


async def test_a_client_that_does_not_start_is_told_from_one_that_is_slow(tmp_path: Path) -> None:
    """Its last words stand in its log."""
    async with Cast(tmp_path, {}).on_stage() as cast:
        client = await cast.companion("filer", "python", "-c", "raise SystemExit(3)")
        with pytest.raises(PerformanceError, match="expected ready"):
            await client.require_ready()
        with pytest.raises(PerformanceError, match="ended with 3"):
            await client.leave()


async def test_a_missing_script_is_named(tmp_path: Path) -> None:
    """Without an installed project there is nothing to show."""
    with pytest.raises(PerformanceError, match="install the project"):
        await Cast(tmp_path, {}).run("bistro-nothing")
