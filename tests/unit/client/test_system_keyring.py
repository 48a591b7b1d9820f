"""Filer keys in the system's keyring: real backends, a file's and the Secret Service's."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.backends.null import Keyring as Forgetful
from keyrings.alt.file import PlaintextKeyring

from bistro.errors import SettingsError, StorageError
from bistro.protocol.submission import SubmissionState
from bistro_client import keyring as keys
from tests.support.disks import FaultyDisk, How
from tests.support.town import environment, script
from tests.unit.client.commands import bistro
from tests.unit.client.worlds import real_time


@contextlib.contextmanager
def using(backend: KeyringBackend) -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    try:
        yield
    finally:
        keyring.set_keyring(before)


@pytest.fixture
def entries(tmp_path: Path) -> Iterator[Path]:
    """The file of the library's own backend that keeps entries in a file."""
    backend = PlaintextKeyring()
    backend.file_path = str(tmp_path / "entries.cfg")
    with using(backend):
        yield Path(backend.file_path)


def names_in(entries: Path) -> list[str]:
    """The public keys that the file has entries of."""
    text = entries.read_text() if entries.exists() else ""
    return re.findall(r"^([0-9a-f]{64}) =", text, re.MULTILINE)


def test_the_key_file_says_only_where_the_key_is(tmp_path: Path, entries: Path) -> None:
    """No private byte in the home; the backup has the key, or it would be none."""
    home = tmp_path / "home"
    made = bistro("keys", "new", "--keyring", "--home", home, "--json")
    assert made.code == 0, made.err
    public = made.document["public_key"]
    assert made.document["in_keyring"] is True
    assert (home / "keys" / "filer.pem").read_text() == f"bistro/keyring/v1\n{public}\n"
    assert public in entries.read_text()
    assert bistro("keys", "show", "--home", home, "--json").document["public_key"] == public
    assert "system's keyring" in bistro("doctor", "--home", home).out
    assert bistro("keys", "new", "--keyring", "--home", home).code == 2
    assert bistro("keys", "backup", tmp_path / "b.zip", "--home", home).code == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "restored")
    with using(NoKeyring()):  # type: ignore[no-untyped-call]
        shown = bistro("keys", "show", "--home", tmp_path / "restored", "--json")
    assert shown.document["public_key"] == public
    assert shown.document["in_keyring"] is False


async def test_a_submission_is_signed_with_it(tmp_path: Path, entries: Path) -> None:
    """From the first word to staged, and resumed, as with a file."""
    async with real_time(tmp_path) as w:
        key = keys.create(w.home.key_file, in_system=True)
        done = await w.submitter().submit(w.wish())
        assert done.state is SubmissionState.STAGED
        assert done.sealed is not None
        assert done.sealed.signed.header.filer_key == key.public
        assert names_in(entries) == [key.public.hex()]


def test_an_entry_that_is_gone_is_named(tmp_path: Path, entries: Path) -> None:
    """What happened, that nothing was sent, and where the key may still be."""
    home = tmp_path / "home"
    assert bistro("keys", "new", "--keyring", "--home", home).code == 0
    entries.unlink()
    ran = bistro("keys", "show", "--home", home)
    assert ran.code == 2
    ran.require_two_lines()
    assert "has no key bistro/" in ran.err
    assert bistro("keys", "backup", tmp_path / "b.zip", "--home", home).code == 2
    assert not (tmp_path / "b.zip").exists()
    assert bistro("doctor", "--home", home).code == 2


def test_an_entry_of_another_key_is_not_taken(tmp_path: Path, entries: Path) -> None:
    """Whoever can write to the keyring cannot make us sign with a key of theirs."""
    one = keys.create(tmp_path / "one.pem", in_system=True)
    two = keys.create(tmp_path / "two.pem", in_system=True)
    assert entries.exists()
    other = keyring.get_password("bistro", two.public.hex())
    assert other is not None
    keyring.set_password("bistro", one.public.hex(), other)
    with pytest.raises(SettingsError, match="another key under this one's name"):
        keys.load(one.path)


@pytest.mark.parametrize("text", ["bistro/keyring/v1\n", "bistro/keyring/v1\nAB\n"])
def test_a_damaged_reference_is_a_damaged_key_file(tmp_path: Path, text: str) -> None:
    """And no question to the keyring."""
    (tmp_path / "key.pem").write_text(text)
    with pytest.raises(SettingsError, match="reference to the system's keyring"):
        keys.load(tmp_path / "key.pem")


@pytest.mark.parametrize("kind", [NoKeyring, Forgetful], ids=["none", "forgetful"])
def test_without_a_keyring_no_key_is_made(tmp_path: Path, kind: type[KeyringBackend]) -> None:
    """A file that says otherwise would be a lie."""
    home = tmp_path / "home"
    with using(kind()):
        ran = bistro("keys", "new", "--keyring", "--home", home)
    assert ran.code == 2
    ran.require_two_lines()
    assert not (home / "keys" / "filer.pem").exists()
    assert bistro("keys", "new", "--home", home).code == 0


@pytest.mark.parametrize("how", ["not-stored", "stored"])
def test_a_file_that_cannot_be_written_leaves_no_entry(
    tmp_path: Path, entries: Path, how: How
) -> None:
    """File and entry are there together, or neither is, whatever step of the disk fails."""
    path = tmp_path / "home" / "key.pem"
    path.parent.mkdir()
    for at in range(20):
        try:
            keys.create(path, in_system=True, disk=FaultyDisk(at=at, how=how))
        except StorageError:
            assert bool(names_in(entries)) == path.exists()
        if path.exists():
            # Stored, and be it that it failed: then it is whole.
            assert keys.load(path).public.hex() in path.read_text()
            return
    raise AssertionError


def test_keyring_and_passphrase_exclude_each_other(tmp_path: Path) -> None:
    """The keyring is the protection."""
    ran = bistro("keys", "new", "--keyring", "--passphrase", "--home", tmp_path / "home")
    assert ran.code == 2
    assert "found both" in ran.err


SERVICE = ("dbus-run-session", "gnome-keyring-daemon")
MISSING = [name for name in SERVICE if shutil.which(name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"the Secret Service is not here: {MISSING}")
def test_the_secret_service_keeps_a_key(tmp_path: Path) -> None:
    """The real one, over D-Bus, in a session of its own; two processes of ours."""
    home, runtime = tmp_path / "home", tmp_path / "run"
    runtime.mkdir(mode=0o700)
    own = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)}
    own |= {"XDG_DATA_HOME": str(tmp_path / "data")}
    own |= {"PYTHON_KEYRING_BACKEND": "keyring.backends.SecretService.Keyring"}
    daemon = "printf 'secret' | gnome-keyring-daemon --unlock --components=secrets >/dev/null"
    ours = f"{script('bistro')} keys new --keyring --home {home}"
    again = f"{script('bistro')} keys show --home {home} --json"
    ran = subprocess.run(
        ["dbus-run-session", "--", "sh", "-ec", f"{daemon}\n{ours}\n{again}"],
        env=environment() | own,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran
    assert '"in_keyring":true' in ran.stdout
    assert b"bistro/keyring/v1" in (home / "keys" / "filer.pem").read_bytes()
