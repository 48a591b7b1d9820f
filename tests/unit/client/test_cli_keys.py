"""The command line's keys and its doctor: never replaced, never shown, and what to do."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.unit.client.commands import bistro, running_bistro
from tests.unit.client.worlds import real_time


def test_keys_are_made_shown_and_backed_up(tmp_path: Path) -> None:
    """Never replaced; the private part is never shown."""
    home = tmp_path / "home"
    assert bistro("keys", "show", "--home", home).code == 2
    made = bistro("keys", "new", "--home", home)
    assert made.code == 0
    assert "fingerprint: " in made.out
    private = (home / "keys" / "filer.pem").read_text()
    assert (home / "keys" / "filer.pem").stat().st_mode & 0o077 == 0
    again = bistro("keys", "new", "--home", home)
    assert again.code == 2
    again.require_two_lines()
    assert (home / "keys" / "filer.pem").read_text() == private
    shown = bistro("keys", "show", "--home", home, "--json")
    assert shown.document["public_key"] in made.out
    assert private.splitlines()[1] not in made.out + shown.out
    target = tmp_path / "backup.zip"
    assert bistro("keys", "backup", target, "--home", home).code == 0
    assert target.stat().st_mode & 0o077 == 0
    assert bistro("keys", "backup", target, "--home", home).code == 2
    with zipfile.ZipFile(target) as archive:
        archive.extractall(tmp_path / "restored")
    restored = bistro("keys", "show", "--home", tmp_path / "restored", "--json")
    assert restored.document["public_key"] == shown.document["public_key"]


def test_a_key_with_a_passphrase_needs_it(tmp_path: Path) -> None:
    """From a file that an option names; nobody is asked where there is no terminal."""
    home = tmp_path / "home"
    (tmp_path / "secret").write_text("correct horse\n")
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "none").write_text("\n")
    options = ("--home", home, "--passphrase-file")
    assert bistro("keys", "new", *options, tmp_path / "none").code == 2
    assert bistro("keys", "new", *options, tmp_path / "secret").code == 0
    assert bistro("keys", "show", *options, tmp_path / "secret").code == 0
    for arguments in ((*options, tmp_path / "wrong"), ("--home", home)):
        ran = bistro("keys", "show", *arguments)
        assert ran.code == 2
        ran.require_two_lines()


async def test_doctor_says_what_to_do(tmp_path: Path) -> None:
    """Good, or a warning with a next step; exit 5 where the destination does not answer."""
    async with real_time(tmp_path) as w:
        ran = await running_bistro("doctor", "--home", w.home.root)
        assert ran.code == 0
        assert "bistro keys new" in ran.out
        bistro("keys", "new", "--home", w.home.root)
        w.relays[0].how = "silent"
        ran = await running_bistro("doctor", "--to", w.url, "--home", w.home.root)
        assert ran.code == 0, ran.out
        assert "2 of 3 relays" in ran.out
        assert "anna.example" in ran.out
        assert "clock" in ran.out
        w.wire.skew_ms = 3_600_000
        ran = await running_bistro("doctor", "--to", w.url, "--home", w.home.root, "--json")
        checks = {one["name"]: one for one in ran.document["checks"]}
        assert checks["clock"]["health"] == "warning"
        assert checks["key"]["health"] == "good"
        w.home.key_file.chmod(0o644)
        assert "chmod 600" in bistro("doctor", "--home", w.home.root).out
        w.home.key_file.write_bytes(b"nonsense")
        assert bistro("doctor", "--home", w.home.root).code == 2
        w.wire.down = True
        bad = await running_bistro("doctor", "--to", w.url, "--home", w.home.root)
        assert bad.code in {2, 5}
        assert "bad" in bad.out
