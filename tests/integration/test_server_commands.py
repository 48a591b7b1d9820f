"""The commands of ``bistro-server`` that make servers and calls, and their errors."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bistro.crypto.age.keys import parse_recipient
from bistro.crypto.keys import VerifierKey
from bistro_server.services.calls import CallRegistry
from bistro_server.services.folder import ServerFolder
from tests.support.shell import RELAY, Shell, create


def test_init_shows_what_filers_will_pin(tmp_path: Path, shell: Shell) -> None:
    """Vkey and fingerprint are printed, keys are for the owner only."""
    folder = tmp_path / "d"
    assert shell("init", str(folder), "--name", "permits.example", "--json") == 0
    key = VerifierKey.parse(shell.json["vkey"])
    assert (key.name, shell.json["fingerprint"]) == ("permits.example", key.fingerprint())
    assert stat.S_IMODE((folder / "keys" / "terms.key").stat().st_mode) == 0o600
    assert "PRIVATE" not in shell.out


def test_init_never_overwrites(root: Path, shell: Shell) -> None:
    """A second one is refused and the key stays."""
    key = (root / "keys" / "terms.key").read_bytes()
    assert shell("init", root, "--name", "other.example") == 3
    assert shell.err.startswith("error: ")
    assert "\nnext: " in shell.err
    assert (root / "keys" / "terms.key").read_bytes() == key


@pytest.mark.parametrize(
    "options",
    [
        ("--name", "nodot"),
        ("--name", "permits.example", "--base-url", "ftp://x.example"),
        ("--name", "permits.example", "--port", "70000"),
        (),
    ],
)
def test_wrong_options_of_init_make_nothing(
    tmp_path: Path, shell: Shell, options: tuple[str, ...]
) -> None:
    """The exit code is that of usage, the message one line with a next step."""
    assert shell("init", str(tmp_path / "d"), *options) == 2
    assert shell.err.startswith("error: ")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(("kind", "prefix"), [("hybrid", "age1pq1"), ("x25519", "age1")])
def test_a_created_call_has_signed_terms_and_keys(
    root: Path, shell: Shell, kind: str, prefix: str
) -> None:
    """Terms verify with the server's key; each key has the name that the specification gives."""
    assert create(shell, root, "spring", "--recipient-kind", kind, "--json") == 0
    call = CallRegistry(ServerFolder(root)).load("spring")
    call.latest.verify(call.terms.keys.terms)
    assert shell.json["terms_hash"] == call.terms.hash.hex()
    assert call.terms.recipients[0].startswith(prefix)
    (identity,) = call.load_identities()
    assert identity.recipient == parse_recipient(call.terms.recipients[0])
    modes = {stat.S_IMODE(path.stat().st_mode) for path in call.folder.keys.iterdir()}
    assert modes == {0o600}
    assert call.relays[0].name == "relay.example"
    assert sorted(path.name for path in (root / "calls").iterdir()) == ["spring"]


def test_a_call_is_not_made_twice(root: Path, shell: Shell) -> None:
    """Neither over a call nor over keys that are left of one."""
    assert create(shell, root) == 0
    assert create(shell, root) == 3
    call = ServerFolder(root).call("spring")
    call.root.rename(root / "calls" / ".moved")
    assert create(shell, root) == 3
    assert "interrupted" in shell.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--closes", "yesterday"), "RFC 3339"),
        (("--closes", "2020-01-01T00:00:00Z"), "to come"),
        (("--opens", "+3h"), "opens before closes"),
        (("--stage-by", "+1h"), "stage_by"),
        (("--repair-by", "+3h"), "repair_by"),
        (("--grace-ms", "10"), "grace_ms"),
        (("-k", "4"), "k"),
        (("--envelope-limit", "0"), "envelope_limit"),
        (("--title", "two\nlines"), "title"),
        (("--relay", "relay.example"), "--relay"),
        (("--relay", "https://relay.example=nonsense"), "--relay"),
        (("--relay", "http://relay.example=x+00000000+AA=="), "plain HTTP"),
    ],
)
def test_terms_that_cannot_be_are_refused(
    root: Path, shell: Shell, options: tuple[str, ...], words: str
) -> None:
    """The message names the field; no call and no key is left."""
    assert create(shell, root, "spring", *options) == 2
    assert words in shell.err
    assert list((root / "calls").iterdir()) == []
    assert sorted(path.name for path in (root / "keys").iterdir()) == ["terms.key", "tsa.key"]


def test_a_bad_call_id_and_a_repeated_relay_are_refused(root: Path, shell: Shell) -> None:
    """Both before anything is made."""
    assert create(shell, root, "Not-An-Id") == 2
    assert create(shell, root, "spring", "--relay", RELAY) == 3
    assert "twice" in shell.err


def test_a_relay_that_does_not_answer_is_unavailable(root: Path, shell: Shell) -> None:
    """Nothing is made with a relay whose key nobody knows."""
    assert create(shell, root, "spring", "--relay", "http://127.0.0.1:9") == 5
    assert list((root / "calls").iterdir()) == []


def test_without_a_known_clock_error_no_call_is_made(
    root: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how to go on; the same command works once the clock is known."""
    monkeypatch.setenv("BISTRO_SERVER_CLOCK__ASSUMED_ERROR_MS", "5000")
    monkeypatch.setattr("bistro.clock.kernel_error_bound_ms", lambda: None)
    assert create(shell, root) == 5
    assert "clock error" in shell.err
    assert shell("serve", "--dir", root) == 5
    assert "clock error" in shell.err
    monkeypatch.setenv("BISTRO_SERVER_CLOCK__ASSUMED_ERROR_MS", "50")
    assert create(shell, root) == 0


def test_calls_are_shown_and_listed(root: Path, shell: Shell) -> None:
    """Text for people, one document for programs."""
    assert shell("call", "list", "--dir", root) == 0
    assert "no calls" in shell.err
    assert create(shell, root) == 0
    assert create(shell, root, "later", "--opens", "+1h") == 0
    assert shell("call", "list", "--dir", root, "--json") == 0
    states = {call["origin"]: call["state"] for call in shell.json["calls"]}
    assert states == {"permits.example/later": "announced", "permits.example/spring": "open"}
    assert shell("call", "list", "--dir", root) == 0
    assert "spring  open" in shell.out
    assert shell("call", "show", "spring", "--dir", root) == 0
    assert "any 2 of 3" in shell.out
    assert shell("call", "show", "spring", "--dir", root, "--json") == 0
    assert shell.json["terms"]["title"] == "Spring"


def test_closing_early_is_refused(root: Path, shell: Shell) -> None:
    """It would shorten a deadline; the message says from when it is possible."""
    assert create(shell, root) == 0
    assert shell("call", "close", "spring", "--dir", root, "--json") == 3
    assert shell.json["error"]["code"] == "not-open"
    assert shell("call", "close", "autumn", "--dir", root) == 3
    assert shell("call", "close", "..", "--dir", root) == 2


def test_a_folder_without_a_server_is_named(tmp_path: Path, shell: Shell) -> None:
    """Every command but init says so, and how to make one."""
    for command in (("serve",), ("doctor",), ("call", "list")):
        assert shell(*command, "--dir", str(tmp_path)) == 2
        assert "bistro-server init" in shell.err


def test_wrong_settings_are_all_named_at_once(root: Path, shell: Shell) -> None:
    """With the file and key of each."""
    file = root / "bistro-server.toml"
    file.write_text('name = "nodot"\nsurprise = 1\n[http]\nport = 0\n', encoding="utf-8")
    assert shell("serve", "--dir", root) == 2
    for words in ("nodot", "surprise", "base_url"):
        assert words in shell.err


def test_a_missing_key_is_named(root: Path, shell: Shell) -> None:
    """Without it nothing can be signed."""
    assert create(shell, root) == 0
    ServerFolder(root).call("spring").key("status").unlink()
    assert shell("call", "show", "spring", "--dir", root) == 2
    assert "status.key" in shell.err
    (root / "keys" / "terms.key").unlink()
    assert shell("serve", "--dir", root) == 2


def test_a_key_of_another_call_is_refused(root: Path, shell: Shell) -> None:
    """Nothing is signed with the wrong key; the damage is named."""
    assert create(shell, root) == 0
    assert create(shell, root, "autumn") == 0
    folder = ServerFolder(root)
    other = folder.call("autumn").key("status").read_bytes()
    folder.call("spring").key("status").write_bytes(other)
    assert shell("call", "show", "spring", "--dir", root) == 1


def test_usage_errors_exit_with_2(shell: Shell) -> None:
    """Unknown commands and options too."""
    assert shell("nonsense") == 2
    assert shell("call", "show") == 2
    assert shell("serve", "--nonsense") == 2
    assert shell("--version") == 0
    assert shell.out.startswith("bistro-server")
