"""What an operator types from day to day: drain, pause, statement, takedown."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bistro.clock import SystemClock
from bistro.crypto.keyfile import decode_note_key
from bistro.errors import FormatError, SettingsError
from bistro.wire.relay_notes import Service, Takedown
from bistro_relay.cli import main_group
from bistro_relay.store.orders import Orders, OrdersFile
from bistro_relay.store.takedowns import TakedownFiles
from tests.support.paper import RELAY


def typed(*words: str | Path) -> Result:
    """One command; its errors are raised."""
    return CliRunner().invoke(main_group, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    typed("init", tmp_path / "r", "--name", RELAY, "--operator", "Example")
    return tmp_path / "r"


def test_drain_and_pause_are_written_down_until_they_are_ended(folder: Path) -> None:
    """Each says what it means and how it is ended."""
    file = OrdersFile(folder)
    assert "bistro-relay undrain" in typed("drain", "--dir", folder).output
    assert "bistro-relay resume" in typed("pause", "--until", "+1h", "--dir", folder).output
    found, now = file.load(), SystemClock().now()
    assert found.draining_since is not None
    assert found.draining_since <= now
    assert found.paused_until is not None
    assert now < found.paused_until <= now + 3_600_000
    typed("undrain", "--dir", folder)
    assert file.load() == Orders(None, found.paused_until)
    typed("resume", "--dir", folder)
    assert file.load() == Orders()


def test_a_pause_that_is_over_or_no_time_is_refused(folder: Path) -> None:
    """And nothing is written."""
    for wrong in ("2020-01-01T00:00:00Z", "soon", "1h"):
        with pytest.raises(SettingsError):
            typed("pause", "--until", wrong, "--dir", folder)
    assert OrdersFile(folder).load() == Orders()


def test_a_statement_verifies_with_the_relays_key(folder: Path) -> None:
    """Also while the relay does not serve; a month that is none is refused."""
    key = decode_note_key((folder / "keys" / "relay.key").read_bytes()).verifier
    note = typed("statement", "--dir", folder).output.encode()
    assert Service.verify(note, key).destinations == ()
    with pytest.raises(FormatError):
        typed("statement", "--month", "november", "--dir", folder)


def test_a_takedown_is_signed_and_kept(folder: Path) -> None:
    """With the fragments that were named, each once; a wrong commitment is refused."""
    key = decode_note_key((folder / "keys" / "relay.key").read_bytes()).verifier
    named = ("--fragment", "2", "--fragment", "0", "--fragment", "2")
    order = ("permits.example/spring", "07" * 32, "--reason", "order 7", "--dir", folder)
    said = typed("takedown", *order, *named).output
    (name,) = TakedownFiles(folder).names()
    assert f"/takedowns/{name.hex()}" in said
    kept = Takedown.verify(TakedownFiles(folder).load(name) or b"", key)
    assert (kept.fragments, kept.commitment) == ((0, 2), b"\x07" * 32)
    with pytest.raises(FormatError):
        typed("takedown", "permits.example/spring", "07", *order[2:])
