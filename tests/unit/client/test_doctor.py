"""The doctor finds what is wrong, and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bistro.crypto.erasure import Kernel, best_kernel
from bistro.crypto.erasure_python import PythonKernel
from bistro.errors import StorageError
from bistro.wire.discovery import ServerDiscovery
from bistro_client import doctor, keyring
from bistro_client.doctor import Check, Health, examine_destination, examine_home
from bistro_client.evidence_file import load_terms, update
from bistro_client.home import Home
from bistro_client.journal import read_journal
from tests.unit.client.worlds import World, world


def named(checks: list[Check], name: str) -> Check:
    return next(one for one in checks if one.name == name)


async def destination_of(w: World) -> list[Check]:
    return await examine_destination(w.home, w.session, w.clock, w.url)


async def test_a_good_world_is_good(tmp_path: Path) -> None:
    """Network, key, clock and relays; the key is shown and not pinned."""
    async with world(tmp_path) as w:
        checks = await destination_of(w)
        assert {one.health for one in checks} == {Health.GOOD}
        assert "not pinned yet" in named(checks, "server key").text
        assert not w.home.known_servers.exists()
        await w.submitter().submit(w.wish())
        assert "as pinned" in named(await destination_of(w), "server key").text


async def test_relays_that_cannot_be_used_are_named_with_their_reasons(tmp_path: Path) -> None:
    """Fewer than n is worth a word before the deadline."""
    async with world(tmp_path) as w:
        w.relays[0].how = "nonsense"
        w.relays[1].server = "other.example"
        check = named(await destination_of(w), "call spring")
        assert check.health is Health.WARNING
        assert "1 of 3 relays" in check.text
        assert "anna.example: answers nothing that a relay would" in check.hint
        assert "bert.example: does not serve permits.example" in check.hint


async def test_bad_terms_and_silence_are_found(tmp_path: Path) -> None:
    """With the exit code of the error behind them."""
    async with world(tmp_path) as w:
        w.wire.answers["/terms"] = b"{}"
        check = named(await destination_of(w), "call spring")
        assert (check.health, check.exit_code) == (Health.BAD, 3)
        w.wire.changes["bistro.json"] = lambda body: replace(
            ServerDiscovery.decode(body), calls=()
        ).encode()
        assert len(await destination_of(w)) == 3
        w.wire.down = True
        (check,) = await destination_of(w)
        assert (check.name, check.health, check.exit_code) == ("network", Health.BAD, 5)


async def test_a_server_without_a_clock_is_skipped(tmp_path: Path) -> None:
    """Nothing is said about a clock that nobody shows."""
    async with world(tmp_path) as w:
        w.wire.has_date = False
        assert named(await destination_of(w), "clock").health is Health.SKIPPED


def test_the_home_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full or broken disk, and keys of every condition."""
    home = Home(tmp_path / "home")
    key = named(list(examine_home(home)), "key")
    assert (key.health, key.hint) == (
        Health.WARNING,
        "the first submission makes one, or `bistro keys new`",
    )
    keyring.create(home.key_file, "secret")
    checks = list(examine_home(home))
    assert "protected by a passphrase" in named(checks, "key").text
    assert named(checks, "disk").health is Health.GOOD

    class Usage:
        free = 1_000

    monkeypatch.setattr("bistro_client.doctor.shutil.disk_usage", lambda _: Usage())
    assert named(list(examine_home(home)), "disk").health is Health.WARNING
    (tmp_path / "file").write_bytes(b"")
    bad = named(list(examine_home(Home(tmp_path / "file" / "home"))), "disk")
    assert (bad.health, bad.exit_code) == (Health.BAD, 1)


@pytest.mark.parametrize("kernel", [PythonKernel(), best_kernel()], ids=["python", "best"])
def test_the_coder_in_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel
) -> None:
    """Who waits for large filings to be cut learns what would help."""
    monkeypatch.setattr(doctor, "best_kernel", lambda: kernel)
    check = named(list(examine_home(Home(tmp_path / "home"))), "erasure code")
    assert check.health is Health.GOOD
    assert check.text.startswith(f"computed by {kernel.name}")
    assert ("libisal2" in check.text) == (kernel.name == "pure Python")


async def test_evidence_needs_the_terms_that_were_kept(tmp_path: Path) -> None:
    """If they are damaged or gone the file says which; nothing else suffers."""
    async with world(tmp_path) as w:
        await w.submitter().submit(w.wish())
        folder = w.only_folder()
        submission = read_journal(folder)
        evidence = folder.evidence.read_bytes()
        path = folder.terms_version(1)
        data = path.read_bytes()
        path.write_bytes(b"{}")
        with pytest.raises(StorageError, match=r"terms.1\.json"):
            load_terms(folder)
        path.unlink()
        with pytest.raises(StorageError, match="expected the terms"):
            update(folder, submission)
        path.write_bytes(data)
        folder.evidence.write_bytes(b"damaged")
        assert update(folder, submission) == folder.evidence
        assert folder.evidence.read_bytes() == evidence
