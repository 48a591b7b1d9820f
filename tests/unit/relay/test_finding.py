"""What ``init`` finds out about a machine, and the units that it writes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from bistro.errors import SettingsError
from bistro_relay.cli import finding
from bistro_relay.cli.setup import init
from bistro_relay.cli.units import NAME, Place, units
from bistro_relay.settings import load_settings
from tests.architecture.sources import ROOT
from tests.support.tools import require_tool

PLACE = Place(
    Path("/var/lib/bistro-relay"),
    Path("/opt/bistro/bin/bistro-relay"),
    "bistro-relay",
    "0.0.0.0",
    8_441,
)


def test_the_name_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """In lower case, and without the dot of the root."""
    monkeypatch.setattr("socket.getfqdn", lambda: "Relay.Example.NET.")
    assert finding.find_name() == "relay.example.net"


@pytest.mark.parametrize("nobody", ["spare", "localhost.localdomain", "127.0.0.1", "a_b.example"])
def test_a_machine_without_a_name_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, nobody: str
) -> None:
    """Nothing is guessed that others could not use."""
    monkeypatch.setattr("socket.getfqdn", lambda: nobody)
    with pytest.raises(SettingsError) as refused:
        finding.find_name()
    assert "--name" in refused.value.hint


def test_the_domain_is_that_of_the_name() -> None:
    """Of a name that is a domain itself it is the name."""
    assert finding.domain_of("relay.example.net") == "example.net"
    assert finding.domain_of("example.net") == "example.net"


def test_the_region_is_the_time_zone(tmp_path: Path) -> None:
    """A machine that keeps UTC says nothing about where it stands."""
    for zone, region in (("Europe/Berlin", "Europe/Berlin"), ("Etc/UTC", ""), ("UTC", "")):
        target = tmp_path / "zoneinfo" / zone
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        link = tmp_path / "localtime"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert finding.find_region(link) == region


def test_a_certificate_is_used_where_chain_and_key_can_be_read(tmp_path: Path) -> None:
    """One beside the settings before the machine's."""
    live = tmp_path / "live"
    assert finding.find_certificate(tmp_path, "relay.example", live) is None
    for folder in (live / "relay.example", tmp_path / "tls"):
        folder.mkdir(parents=True)
        (folder / "fullchain.pem").touch()
        assert finding.find_certificate(tmp_path, "other.example", live) is None
        (folder / "privkey.pem").touch()
        found = finding.find_certificate(tmp_path, "relay.example", live)
        assert found is not None
        assert found.chain == folder / "fullchain.pem"


def test_some_of_the_disk_is_kept_back(tmp_path: Path) -> None:
    """Never so much that a quarter of what is free would go, unless that is very little."""
    found = finding.kept_back(tmp_path / "not" / "there" / "yet")
    assert 2**28 <= found <= max(2**28, shutil.disk_usage(tmp_path).free // 4)


@pytest.mark.parametrize("has_certificate", [False, True])
def test_init_asks_nothing_that_it_can_find_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, has_certificate: bool
) -> None:
    """A folder is all it needs; what it writes can be loaded at once."""
    monkeypatch.setattr("socket.getfqdn", lambda: "relay.example.net")
    folder = tmp_path / "relay"
    if has_certificate:
        (folder / "tls").mkdir(parents=True)
        for name in ("fullchain.pem", "privkey.pem"):
            (folder / "tls" / name).touch()
    done = CliRunner().invoke(init, [str(folder)], catch_exceptions=False)
    settings = load_settings(folder)
    assert settings.relay.name == "relay.example.net"
    assert settings.relay.operator == "example.net"
    assert settings.relay.abuse_contact == "abuse@example.net"
    assert (folder / "systemd" / "bistro-relay.service").exists()
    assert f"allow https://DESTINATION --dir {folder}" in done.output
    if has_certificate:
        assert settings.http.base_url == "https://relay.example.net:8441"
        assert settings.http.host == "0.0.0.0"
        assert "Only this machine" not in done.output
    else:
        assert settings.http.base_url == "http://127.0.0.1:8441"
        assert "Only this machine" in done.output


def test_units_in_deploy_are_those_of_the_usual_place() -> None:
    """Whoever installs by hand gets what ``init`` writes."""
    for file, text in units(PLACE).items():
        assert (ROOT / "deploy" / "systemd" / file).read_text() == text


def test_units_name_the_place_of_their_relay() -> None:
    """Folder, command, user, address and port; a folder below /home can be reached."""
    place = Place(Path("/home/me/r"), Path("/home/me/v/bin/bistro-relay"), "me", "::1", 443)
    found = units(place)
    assert "ListenStream=[::1]:443\n" in found[f"{NAME}.socket"]
    service = found[f"{NAME}.service"]
    assert "ExecStart=/home/me/v/bin/bistro-relay serve --dir /home/me/r\n" in service
    assert "User=me\n" in service
    assert "ProtectHome=no\n" in service
    assert "ReadWritePaths=/home/me/r\n" in service


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    """No unknown key, and little that the relay could reach of the machine."""
    analyze = require_tool("systemd-analyze")
    program = tmp_path / "bistro-relay"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    place = Place(tmp_path, program, "root", "127.0.0.1", 8_441)
    paths = []
    for file, text in units(place).items():
        paths.append(tmp_path / file)
        paths[-1].write_text(text)
    checked = subprocess.run(
        [analyze, "verify", *paths], capture_output=True, text=True, check=False
    )
    assert not [line for line in checked.stderr.splitlines() if str(tmp_path) in line]
    rated = subprocess.run(
        [analyze, "security", "--offline=yes", "--threshold=25", paths[-1]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout
