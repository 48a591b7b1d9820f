"""The commands of ``bistro-server`` as a person types them: output, errors, exit codes."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography import x509

from bistro.clock import SystemClock
from bistro.crypto.age.keys import parse_recipient
from bistro.crypto.keys import VerifierKey
from bistro.crypto.timestamp import certificate as certificates
from bistro.storage.locks import FileLock
from bistro_server import cli
from bistro_server.services.calls import CallRegistry
from bistro_server.services.folder import ServerFolder
from tests.support.strategies import note_key
from tests.support.timestamps import authority, issued

RELAY = "https://relay.example=" + note_key("relay.example").verifier.format()


class Shell:
    """Runs commands in this process and keeps what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: str) -> int:
        """The exit code."""
        self._monkeypatch.setattr(sys, "argv", ["bistro-server", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        self.out, self.err = self._capsys.readouterr()
        return int(caught.value.code or 0)

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A shell on a machine whose clock is assumed to be good."""
    monkeypatch.setenv("BISTRO_SERVER_CLOCK__ASSUMED_ERROR_MS", "50")
    monkeypatch.setenv("BISTRO_SERVER_DISK__MIN_FREE_BYTES", "0")
    yield Shell(capsys, monkeypatch)
    structlog.reset_defaults()  # serve sent logs to a stream that ends with the test


@pytest.fixture
def root(tmp_path: Path, shell: Shell) -> str:
    """A new server's folder."""
    folder = tmp_path / "d"
    url = ("--port", "0", "--base-url", "http://127.0.0.1:8440")
    assert shell("init", str(folder), "--name", "permits.example", *url) == 0
    return str(folder)


def create(shell: Shell, root: str, call: str = "spring", *more: str) -> int:
    """A call that closes in two hours."""
    arguments = ("--dir", root, "--title", "Spring", "--closes", "+2h", "--relay", RELAY)
    return shell("call", "create", call, *arguments, *more)


def test_init_shows_what_filers_will_pin(tmp_path: Path, shell: Shell) -> None:
    """Vkey and fingerprint are printed, keys are for the owner only."""
    folder = tmp_path / "d"
    assert shell("init", str(folder), "--name", "permits.example", "--json") == 0
    key = VerifierKey.parse(shell.json["vkey"])
    assert (key.name, shell.json["fingerprint"]) == ("permits.example", key.fingerprint())
    assert stat.S_IMODE((folder / "keys" / "terms.key").stat().st_mode) == 0o600
    assert "PRIVATE" not in shell.out


def test_init_never_overwrites(root: str, shell: Shell) -> None:
    """A second one is refused and the key stays."""
    key = (Path(root) / "keys" / "terms.key").read_bytes()
    assert shell("init", root, "--name", "other.example") == 3
    assert shell.err.startswith("error: ")
    assert "\nnext: " in shell.err
    assert (Path(root) / "keys" / "terms.key").read_bytes() == key


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
    root: str, shell: Shell, kind: str, prefix: str
) -> None:
    """Terms verify with the server's key; each key has the name that the specification gives."""
    assert create(shell, root, "spring", "--recipient-kind", kind, "--json") == 0
    call = CallRegistry(ServerFolder(Path(root))).load("spring")
    call.latest.verify(call.terms.keys.terms)
    assert shell.json["terms_hash"] == call.terms.hash.hex()
    assert call.terms.recipients[0].startswith(prefix)
    (identity,) = call.load_identities()
    assert identity.recipient == parse_recipient(call.terms.recipients[0])
    modes = {stat.S_IMODE(path.stat().st_mode) for path in call.folder.keys.iterdir()}
    assert modes == {0o600}
    assert call.relays[0].name == "relay.example"
    assert sorted(path.name for path in (Path(root) / "calls").iterdir()) == ["spring"]


def test_a_call_is_not_made_twice(root: str, shell: Shell) -> None:
    """Neither over a call nor over keys that are left of one."""
    assert create(shell, root) == 0
    assert create(shell, root) == 3
    call = ServerFolder(Path(root)).call("spring")
    call.root.rename(Path(root) / "calls" / ".moved")
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
    root: str, shell: Shell, options: tuple[str, ...], words: str
) -> None:
    """The message names the field; no call and no key is left."""
    assert create(shell, root, "spring", *options) == 2
    assert words in shell.err
    assert list((Path(root) / "calls").iterdir()) == []
    assert sorted(path.name for path in (Path(root) / "keys").iterdir()) == ["terms.key", "tsa.key"]


def test_a_bad_call_id_and_a_repeated_relay_are_refused(root: str, shell: Shell) -> None:
    """Both before anything is made."""
    assert create(shell, root, "Not-An-Id") == 2
    assert create(shell, root, "spring", "--relay", RELAY) == 3
    assert "twice" in shell.err


def test_a_relay_that_does_not_answer_is_unavailable(root: str, shell: Shell) -> None:
    """Nothing is made with a relay whose key nobody knows."""
    assert create(shell, root, "spring", "--relay", "http://127.0.0.1:9") == 5
    assert list((Path(root) / "calls").iterdir()) == []


def test_without_a_known_clock_error_no_call_is_made(
    root: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
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


def test_calls_are_shown_and_listed(root: str, shell: Shell) -> None:
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


def test_closing_early_is_refused(root: str, shell: Shell) -> None:
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


def test_wrong_settings_are_all_named_at_once(root: str, shell: Shell) -> None:
    """With the file and key of each."""
    file = Path(root) / "bistro-server.toml"
    file.write_text('name = "nodot"\nsurprise = 1\n[http]\nport = 0\n', encoding="utf-8")
    assert shell("serve", "--dir", root) == 2
    for words in ("nodot", "surprise", "base_url"):
        assert words in shell.err


def test_doctor_finds_a_healthy_server(root: str, shell: Shell) -> None:
    """Every part is looked at."""
    assert create(shell, root) == 0
    assert shell("doctor", "--dir", root) == 0
    looked_at = ("network", "TLS", "clock", "disk", "keys", "database", "ledgers", "RFC 3161")
    for part in (*looked_at, "anchors"):
        assert f"ok      {part}" in shell.out
    assert shell("doctor", "--dir", root, "--json") == 0
    assert shell.json["ok"] is True


def test_doctor_names_what_is_wrong(root: str, shell: Shell, monkeypatch: Any) -> None:
    """A readable key, a damaged ledger and database, a full disk, an unknown clock, all at once."""
    assert create(shell, root) == 0
    folder = ServerFolder(Path(root))
    call = folder.call("spring")
    call.key("log").chmod(0o644)
    (call.log / "wal" / f"{0:016d}").write_bytes(b"nonsense" * 100)
    folder.database.write_bytes(b"nonsense" * 100)
    monkeypatch.setenv("BISTRO_SERVER_DISK__MIN_FREE_BYTES", str(1 << 60))
    monkeypatch.setenv("BISTRO_SERVER_CLOCK__ASSUMED_ERROR_MS", "5000")
    monkeypatch.setattr("bistro.clock.kernel_error_bound_ms", lambda: None)
    assert shell("doctor", "--dir", root, "--json") == 5
    codes = {finding["part"]: finding["code"] for finding in shell.json["findings"]}
    assert codes == {
        "network": None,
        "TLS": None,
        "clock": "unavailable",
        "disk": "storage",
        "keys": "settings",
        "database": "storage",
        "ledgers": "storage",
        "RFC 3161": None,
        "anchors": None,
    }
    assert shell("doctor", "--dir", root) == 5
    assert "FAILED  clock" in shell.out


def test_doctor_sees_a_clock_behind_the_ledgers(root: str, shell: Shell, monkeypatch: Any) -> None:
    """Before ``serve`` refuses to start with it."""
    assert create(shell, root) == 0
    now = SystemClock().now()
    monkeypatch.setattr(SystemClock, "now", lambda _: now - 3_600_000)
    assert shell("doctor", "--dir", root) == 1
    assert "FAILED  ledgers" in shell.out
    assert "earlier" in shell.out
    assert shell("serve", "--dir", root) == 1
    assert "set the clock right" in shell.err


def test_a_certificate_of_time_stamps_is_shown_and_renewed(root: str, shell: Shell) -> None:
    """Doctor shows the same fingerprint, and warns before the end."""
    assert shell("tsa", "show", "--dir", root, "--json") == 0
    before = shell.json
    assert before["subject"] == before["issuer"]
    assert shell("tsa", "renew", "--dir", root) == 0
    assert "restart it" in shell.err
    assert shell("tsa", "renew", "--new-key", "--dir", root, "--json") == 0
    after = shell.json
    assert after["sha256"] != before["sha256"]
    assert shell("tsa", "show", "--dir", root) == 0
    assert after["sha256"] in shell.out
    assert "(3651 days)" in shell.out
    assert shell("doctor", "--dir", root) == 0
    assert after["sha256"] in shell.out


def test_doctor_warns_before_time_stamps_end(root: str, shell: Shell, monkeypatch: Any) -> None:
    """First it says what to do, then it fails."""
    assert shell("doctor", "--dir", root) == 0
    now, day = SystemClock().now(), 86_400_000
    monkeypatch.setattr(SystemClock, "now", lambda _: now + 3_630 * day)
    assert shell("doctor", "--dir", root) == 0
    assert "warn    RFC 3161" in shell.out
    assert "next: bistro-server tsa renew" in shell.out
    monkeypatch.setattr(SystemClock, "now", lambda _: now + 3_660 * day)
    assert shell("doctor", "--dir", root) == 2
    assert "FAILED  RFC 3161" in shell.out
    assert shell("tsa", "show", "--dir", root) == 0
    assert "nothing is stamped" in shell.out


def test_a_real_certificate_is_asked_for_and_imported(root: str, shell: Shell) -> None:
    """The request is for the key that is here, and so is what an issuer makes of it."""
    folder = ServerFolder(Path(root))
    assert shell("tsa", "request", "--dir", root) == 0
    request = x509.load_pem_x509_csr(shell.out.encode())
    key = certificates.decode_key(folder.tsa_key.read_bytes())
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    chain = Path(root) / "bought.pem"
    chain.write_bytes(certificates.encode_chain(issued(key, now=SystemClock().now())))
    assert shell("tsa", "import", str(chain), "--dir", root, "--json") == 0
    assert shell.json["certificates"] == 2
    assert "Root of Example" in shell.json["issuer"]
    assert shell("doctor", "--dir", root) == 0
    assert "warn    RFC 3161" in shell.out
    chain.write_bytes(certificates.encode_chain(authority().chain))
    assert shell("tsa", "import", str(chain), "--dir", root) == 4
    assert "not that of the time-stamp key" in shell.err


def test_files_that_the_settings_name_are_left_to_their_owner(root: str, shell: Shell) -> None:
    """They are shown, and not replaced; nothing is shown where there is nothing."""
    folder = ServerFolder(Path(root))
    text = folder.settings_file.read_text(encoding="utf-8")
    paths = 'key_path = "keys/tsa.key"\ncertificate_path = "tsa.crt"\n'
    changed = text.replace("[timestamps]\n", f"[timestamps]\n{paths}")
    folder.settings_file.write_text(changed, encoding="utf-8")
    assert shell("tsa", "show", "--dir", root) == 0
    assert shell("tsa", "renew", "--dir", root) == 2
    assert "replace that file and its key yourself" in shell.err
    folder.settings_file.write_text(text, encoding="utf-8")
    folder.tsa_key.unlink()
    folder.tsa_certificate.unlink()
    assert shell("tsa", "show", "--dir", root) == 2
    assert "tsa import" in shell.err


def test_a_call_names_the_authority_that_stamps_its_log(
    root: str, shell: Shell, monkeypatch: Any
) -> None:
    """Its certificate's hash and address stand in the terms; doctor fails where nobody answers."""
    monkeypatch.setenv("BISTRO_SERVER_ANCHORING__URL", "http://127.0.0.1:9/tsr")
    assert create(shell, root) == 2
    assert "given both or not at all" in shell.err
    monkeypatch.setenv("BISTRO_SERVER_ANCHORING__CERTIFICATE_PATH", str(Path(root) / "tsa.crt"))
    assert create(shell, root) == 0
    call = CallRegistry(ServerFolder(Path(root))).load("spring")
    (named,) = call.terms.timestamping
    assert named.url == "http://127.0.0.1:9/tsr"
    assert shell("tsa", "show", "--dir", root, "--json") == 0
    assert named.certificate.hex() == shell.json["sha256"]
    assert shell("doctor", "--dir", root) == 5
    assert "FAILED  anchors" in shell.out
    for key, value, words in (("URL", "ftp://x", "base URL"), ("POLICY", "1", "object identifier")):
        monkeypatch.setenv(f"BISTRO_SERVER_ANCHORING__{key}", value)
        assert shell("doctor", "--dir", root) == 2
        assert words in shell.err


def test_doctor_says_where_the_identity_is_not(root: str, shell: Shell) -> None:
    """An identity that was moved away is no fault."""
    assert create(shell, root) == 0
    ServerFolder(Path(root)).call("spring").identity.unlink()
    assert shell("doctor", "--dir", root) == 0
    assert "identities kept elsewhere: spring" in shell.out


def test_two_servers_do_not_share_a_folder(root: str, shell: Shell) -> None:
    """The second says who has it."""
    lock = FileLock.take(ServerFolder(Path(root)).serve_lock, what="the server")
    try:
        assert shell("serve", "--dir", root) == 5
        assert "another process" in shell.err
        assert shell("doctor", "--dir", root) == 0
        assert "a running serve has" in shell.out
    finally:
        lock.release()


def test_a_missing_key_is_named(root: str, shell: Shell) -> None:
    """Without it nothing can be signed."""
    assert create(shell, root) == 0
    ServerFolder(Path(root)).call("spring").key("status").unlink()
    assert shell("call", "show", "spring", "--dir", root) == 2
    assert "status.key" in shell.err
    (Path(root) / "keys" / "terms.key").unlink()
    assert shell("serve", "--dir", root) == 2


def test_a_key_of_another_call_is_refused(root: str, shell: Shell) -> None:
    """Nothing is signed with the wrong key; the damage is named."""
    assert create(shell, root) == 0
    assert create(shell, root, "autumn") == 0
    folder = ServerFolder(Path(root))
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
