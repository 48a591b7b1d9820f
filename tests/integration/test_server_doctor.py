"""What ``bistro-server doctor`` looks at, names and warns of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bistro.clock import SystemClock
from bistro.storage.locks import FileLock
from bistro_server.services.folder import ServerFolder
from tests.support.shell import Shell, create


def test_doctor_finds_a_healthy_server(root: Path, shell: Shell) -> None:
    """Every part is looked at."""
    assert create(shell, root) == 0
    assert shell("doctor", "--dir", root) == 0
    looked_at = ("network", "TLS", "clock", "disk", "keys", "database", "ledgers", "RFC 3161")
    for part in (*looked_at, "anchors"):
        assert f"ok      {part}" in shell.out
    assert shell("doctor", "--dir", root, "--json") == 0
    assert shell.json["ok"] is True


def test_doctor_names_what_is_wrong(root: Path, shell: Shell, monkeypatch: Any) -> None:
    """A readable key, a damaged ledger and database, a full disk, an unknown clock, all at once."""
    assert create(shell, root) == 0
    folder = ServerFolder(root)
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


def test_doctor_sees_a_clock_behind_the_ledgers(root: Path, shell: Shell, monkeypatch: Any) -> None:
    """Before ``serve`` refuses to start with it."""
    assert create(shell, root) == 0
    now = SystemClock().now()
    monkeypatch.setattr(SystemClock, "now", lambda _: now - 3_600_000)
    assert shell("doctor", "--dir", root) == 1
    assert "FAILED  ledgers" in shell.out
    assert "earlier" in shell.out
    assert shell("serve", "--dir", root) == 1
    assert "set the clock right" in shell.err


def test_doctor_warns_before_time_stamps_end(root: Path, shell: Shell, monkeypatch: Any) -> None:
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


def test_doctor_says_where_the_identity_is_not(root: Path, shell: Shell) -> None:
    """An identity that was moved away is no fault."""
    assert create(shell, root) == 0
    ServerFolder(root).call("spring").identity.unlink()
    assert shell("doctor", "--dir", root) == 0
    assert "identities kept elsewhere: spring" in shell.out


def test_two_servers_do_not_share_a_folder(root: Path, shell: Shell) -> None:
    """The second says who has it."""
    lock = FileLock.take(ServerFolder(root).serve_lock, what="the server")
    try:
        assert shell("serve", "--dir", root) == 5
        assert "another process" in shell.err
        assert shell("doctor", "--dir", root) == 0
        assert "a running serve has" in shell.out
    finally:
        lock.release()
