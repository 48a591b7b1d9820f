"""``bistro-relay init``, ``allow``, ``status``, ``doctor`` as an operator types them."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from bistro.crypto.keyfile import decode_note_key
from bistro.daemon.settings import keys_of
from bistro_relay import cli
from bistro_relay.settings import Settings, load_settings
from tests.support.paper import RELAY, SPRING, PaperCall, Sealed, publishing
from tests.support.relays import allow as allow_paper
from tests.support.relays import free_port, relay_site, serving_relay
from tests.support.strategies import note_key

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run one command in a thread of its own, as a process would: exit code, out, err."""

    def once(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["bistro-relay", *map(str, arguments)])
        codes: list[object] = []

        def call() -> None:
            try:
                cli.main()
            except SystemExit as exc:
                codes.append(exc.code or 0)

        capfd.readouterr()
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        out, err = capfd.readouterr()
        return int(str(codes[0])), out, err

    handlers = list(logging.getLogger().handlers)
    yield once
    # `serve` sends all logs to the standard error of this test, which is closed after it.
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def in_thread(run: Run):  # type: ignore[no-untyped-def]
    """The same beside a running event loop."""

    async def call(*arguments: object) -> tuple[int, str, str]:
        return await asyncio.to_thread(run, *arguments)

    return call


def document(out: str) -> dict[str, object]:
    """The one JSON document among the lines that the relay in this process logs."""
    (line,) = (line for line in out.splitlines() if line.startswith("{"))
    found: dict[str, object] = json.loads(line)
    return found


def make(run: Run, folder: Path, *more: object) -> str:
    code, out, err = run(
        *("init", folder, "--name", RELAY, "--operator", 'Ex "Net"', "--port", free_port()), *more
    )
    assert (code, err) == (0, "")
    return out


def test_init_makes_settings_with_comments_and_a_key_of_its_own(run: Run, tmp_path: Path) -> None:
    """Vkey and fingerprint are printed, the key is nobody else's to read."""
    out = make(run, tmp_path / "relay", "--region", "eu")
    key_path = tmp_path / "relay" / "keys" / "relay.key"
    key = decode_note_key(key_path.read_bytes())
    assert key.verifier.format() in out
    assert key.verifier.fingerprint() in out
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600
    settings = load_settings(tmp_path / "relay")
    assert settings.relay.operator == 'Ex "Net"'
    assert settings.relay.region == "eu"
    assert settings.relay.data_path == tmp_path / "relay"
    text = (tmp_path / "relay" / "bistro-relay.toml").read_text()
    for key_found in keys_of(Settings):
        assert f"# {key_found.description}" in text


def test_init_never_replaces_anything(run: Run, tmp_path: Path) -> None:
    """A second init changes nothing and says so."""
    make(run, tmp_path)
    before = (tmp_path / "keys" / "relay.key").read_bytes()
    code, out, err = run("init", tmp_path, "--name", RELAY, "--operator", "x")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "next: " in err
    assert (tmp_path / "keys" / "relay.key").read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [("--name", "nodot"), ("--name", "Upper.example"), ("--base-url", "relay.example")],
)
def test_init_refuses_names_and_addresses_that_are_none(
    run: Run, tmp_path: Path, wrong: tuple[str, str]
) -> None:
    """Usage errors are exit 2 and leave nothing behind."""
    code, _, err = run("init", tmp_path / "r", "--name", RELAY, "--operator", "x", *wrong)
    assert code == 2
    assert "expected" in err
    assert not (tmp_path / "r").exists()


def test_commands_without_a_folder_say_what_to_do(run: Run, tmp_path: Path) -> None:
    """Exit 2, one message, one next step; as JSON where JSON was asked for."""
    for command in ("serve", "status", "doctor"):
        code, _, err = run(command, "--dir", tmp_path)
        assert code == 2
        assert "next: make it with the command init" in err
    code, out, err = run("status", "--dir", tmp_path, "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["error"]["code"] == "settings"


def test_settings_problems_are_all_told_at_once(run: Run, tmp_path: Path) -> None:
    """Unknown keys and wrong values, each with its place."""
    make(run, tmp_path)
    file = tmp_path / "bistro-relay.toml"
    file.write_text(file.read_text() + "\n[surprise]\nx = 1\n[terms]\n")
    code, _, err = run("status", "--dir", tmp_path)
    assert code == 2
    file.write_text(
        '[relay]\nname = "x"\noperator = ""\n[http]\nport = 1\nbase_url = "http://a"\nmore = 1\n'
    )
    code, _, err = run("status", "--dir", tmp_path)
    assert code == 2
    assert "relay.name" in err
    assert "relay.operator" in err
    assert "http.more: no such key" in err


async def test_allow_pins_the_key_and_shows_its_fingerprint(  # type: ignore[no-untyped-def]
    in_thread, run: Run, tmp_path: Path
) -> None:
    """First contact is told as such; asking again is harmless and keeps the quota."""
    make(run, tmp_path)
    async with publishing(PaperCall()) as server:
        code, out, _ = await in_thread(
            "allow", server.url, "--dir", tmp_path, "--quota-bytes", 12_345
        )
        assert code == 0
        assert server.key.fingerprint() in out
        assert "Compare the fingerprint" in out
        code, out, _ = await in_thread("allow", server.url + "/", "--dir", tmp_path)
        assert code == 0
        assert "12345" in out
        assert "Compare" not in out


async def test_allow_refuses_a_changed_key_showing_both(  # type: ignore[no-untyped-def]
    in_thread, run: Run, tmp_path: Path
) -> None:
    """Exit 4, and what was pinned stays."""
    make(run, tmp_path)
    async with publishing(PaperCall()) as server:
        assert (await in_thread("allow", server.url, "--dir", tmp_path))[0] == 0
        pinned, server.key = server.key, note_key(SPRING.server, seed="other").verifier
        kept = (tmp_path / "destinations" / "permits.example.json").read_bytes()
        code, _, err = await in_thread("allow", server.url, "--dir", tmp_path)
        assert code == 4
        assert pinned.fingerprint() in err
        assert server.key.fingerprint() in err
        code, _, err = await in_thread(
            "allow", server.url, "--dir", tmp_path, "--trust", pinned.format()
        )
        assert code == 4
        assert (tmp_path / "destinations" / "permits.example.json").read_bytes() == kept
        code, _, _ = await in_thread(
            "allow", server.url, "--dir", tmp_path, "--trust", server.key.format()
        )
        assert code == 0, "the operator may say so"


def test_allow_says_what_is_wrong_with_an_address(run: Run, tmp_path: Path) -> None:
    """Nobody there is exit 5; no URL, plain HTTP to strangers and no vkey are not."""
    make(run, tmp_path)
    code, _, err = run("allow", f"http://127.0.0.1:{free_port()}", "--dir", tmp_path)
    assert code == 5
    assert "next: " in err
    assert run("allow", "ftp://x", "--dir", tmp_path)[0] == 3
    assert run("allow", "http://permits.example", "--dir", tmp_path)[0] == 2
    code, _, err = run("allow", "https://127.0.0.1:1", "--dir", tmp_path, "--trust", "x")
    assert code == 3
    assert "--trust" in err


async def test_status_works_while_serving_and_when_down(  # type: ignore[no-untyped-def]
    in_thread, run: Run, tmp_path: Path
) -> None:
    """The same numbers from the process and from the folder, for people and for programs."""
    make(run, tmp_path)
    settings, call = load_settings(tmp_path), PaperCall()
    async with publishing(call) as server:
        allow_paper(settings, server, quota_bytes=10**9)
        key_file = tmp_path / "keys" / "relay.key"
        key_file.write_text(note_key(RELAY).format() + "\n")
        async with serving_relay(settings) as relay:
            await relay.stage(call, Sealed(1))
            await relay.create(call.claim(Sealed(2)))
            code, out, _ = await in_thread("status", "--dir", tmp_path, "--json")
            assert code == 0
            live = document(out)
            code, out, _ = await in_thread("status", "--dir", tmp_path)
            assert code == 0
            for word in (RELAY, "serving", "permits.example/spring", "5.0 kB", "1.0 GB"):
                assert word in out
        code, out, _ = await in_thread("status", "--dir", tmp_path, "--json")
        assert code == 0
        down = document(out)
        assert (live["state"], down["state"]) == ("serving", "stopped")
        assert down["calls"] == live["calls"]
        assert down["destinations"] == live["destinations"]
        assert down["calls"] == [
            {
                "origin": "permits.example/spring",
                "receiving_count": 1,
                "held_count": 1,
                "held_bytes": 5_000,
                "released_count": 0,
                "expired_count": 0,
            }
        ]


def test_status_of_a_new_relay_names_the_next_step(run: Run, tmp_path: Path) -> None:
    """Somebody who has just made a relay is told how to go on."""
    make(run, tmp_path)
    code, out, _ = run("status", "--dir", tmp_path)
    assert code == 0
    assert "bistro-relay allow URL" in out
    assert "░░░░ 0 B used" in out


def test_status_says_why_uploads_are_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown clock error or a full disk is named, with what the operator can do."""
    make(run, tmp_path)
    monkeypatch.setenv("BISTRO_RELAY_CLOCK__ASSUMED_ERROR_MS", "1000")
    code, out, _ = run("status", "--dir", tmp_path)
    assert code == 0
    assert "refused: clock error: expected at most 100 ms" in out
    assert "next: run an NTP client" in out
    assert "[clock] assumed_error_ms" in " ".join(out.split())
    monkeypatch.setenv("BISTRO_RELAY_CLOCK__ASSUMED_ERROR_MS", "10")
    monkeypatch.setenv("BISTRO_RELAY_LIMITS__RESERVE_BYTES", str(2**60))
    _, out, _ = run("status", "--dir", tmp_path)
    assert "refused: disk: no room" in out
    assert "# assumed_error_ms = 50" in (tmp_path / "bistro-relay.toml").read_text()


async def test_doctor_finds_what_is_wrong_and_says_what_to_do(  # type: ignore[no-untyped-def]
    in_thread, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for each part; a failure does not hide another; exit as documented."""
    make(run, tmp_path)
    monkeypatch.setenv("BISTRO_RELAY_CLOCK__ASSUMED_ERROR_MS", "10")
    monkeypatch.setenv("BISTRO_RELAY_LIMITS__RESERVE_BYTES", "0")
    code, out, _ = await in_thread("doctor", "--dir", tmp_path)
    assert code == 0, out
    for part in ("key", "clock", "disk", "tls", "network", "database"):
        assert f"ok    {part}: " in out
    (tmp_path / "keys" / "relay.key").chmod(0o644)
    async with publishing(PaperCall()) as server:
        assert (await in_thread("allow", server.url, "--dir", tmp_path))[0] == 0
        code, out, _ = await in_thread("doctor", "--dir", tmp_path)
        assert code == 2
        assert "FAIL  key: " in out
        assert "next: chmod 600" in out
        assert "ok    destination: permits.example" in out
    code, out, _ = await in_thread("doctor", "--dir", tmp_path, "--json")
    findings = {one["part"]: one for one in json.loads(out)["findings"]}
    assert findings["destination"]["code"] == "unavailable"
    assert findings["key"]["code"] == "settings"


async def test_doctor_looks_at_a_running_relay_from_outside(  # type: ignore[no-untyped-def]
    in_thread, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks the public address and compares the key; ledgers are checked when it is down."""
    monkeypatch.setenv("BISTRO_RELAY_CLOCK__ASSUMED_ERROR_MS", "10")
    monkeypatch.setenv("BISTRO_RELAY_LIMITS__RESERVE_BYTES", "0")
    make(run, tmp_path)
    (tmp_path / "keys" / "relay.key").write_text(note_key(RELAY).format() + "\n")
    settings, call = load_settings(tmp_path), PaperCall()
    async with publishing(call) as server:
        allow_paper(settings, server)
        async with serving_relay(settings) as relay:
            await relay.stage(call, Sealed(1))
            code, out, _ = await in_thread("doctor", "--dir", tmp_path)
            assert code == 0, out
            assert "this relay answers at" in out
        code, out, _ = await in_thread("doctor", "--dir", tmp_path)
        assert code == 0, out
        assert "1 entries, all as they were signed" in out
        (ledger,) = (tmp_path / "custody").rglob("wal/0*")
        data = bytearray(ledger.read_bytes().rstrip(b"\0"))
        data[len(data) // 2] ^= 1
        ledger.write_bytes(data)
        code, out, _ = await in_thread("doctor", "--dir", tmp_path)
        assert code == 1
        assert "FAIL  ledger: " in out


async def test_a_second_serve_of_one_folder_is_refused(  # type: ignore[no-untyped-def]
    in_thread, tmp_path: Path
) -> None:
    """Two processes would sign two histories."""
    async with relay_site(tmp_path) as site:
        text = (
            f'[relay]\nname = "{RELAY}"\noperator = "x"\nkey_path = "relay.key"\n'
            f'data_path = "data"\n[http]\nport = {free_port()}\n'
            f'base_url = "{site.relay.url}"\n'
        )
        (tmp_path / "bistro-relay.toml").write_text(text)
        code, _, err = await in_thread("serve", "--dir", tmp_path)
        assert code == 5
        assert "in use by another process" in err


def test_serve_needs_its_own_key(run: Run, tmp_path: Path) -> None:
    """A key that is missing or another relay's is a settings problem, told before anything runs."""
    make(run, tmp_path)
    key_path = tmp_path / "keys" / "relay.key"
    key_path.write_text(note_key("other.example").format() + "\n")
    code, _, err = run("serve", "--dir", tmp_path)
    assert code == 2
    assert "other.example" in err
    key_path.unlink()
    code, _, err = run("serve", "--dir", tmp_path)
    assert code == 2
    assert "backup" in err
