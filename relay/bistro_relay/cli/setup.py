"""``init`` makes a relay's folder; ``allow`` lets a destination use it.

Source: docs/spec/commands.md, bistro-relay.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from bistro.clock import SystemClock
from bistro.crypto.keyfile import encode_note_key
from bistro.crypto.signing import SigningKey
from bistro.daemon.settings import Key, keys_of
from bistro.errors import FormatError, SettingsError
from bistro.ids import require_base_url, require_host_name
from bistro.net.session import Session
from bistro.storage.durable import make_directories, write_atomically
from bistro_relay.cli import finding
from bistro_relay.cli.owning import become_owner, owner_name
from bistro_relay.cli.reporting import directory_option
from bistro_relay.cli.status import format_size
from bistro_relay.cli.units import Place, units
from bistro_relay.services.trust import Allowed, parse_trust
from bistro_relay.services.trust import allow as allow_destination
from bistro_relay.settings import DEFAULT_PORT, FILE_NAME, Settings, load_settings

UNITS: Final = "systemd"
"""Folder of the units that ``init`` makes."""

_HTTPS_PORT: Final = 443
_EXAMPLES: Final = {
    "clock.assumed_error_ms": "50",
    "limits.quota_bytes": "500000000000",
    "limits.traffic_bytes": "2000000000000",
    "collection.bytes_per_s": "10000000",
}
_SHOWN: Final = {
    "name": "relay.name",
    "operator": "relay.operator",
    "region": "relay.region",
    "abuse": "relay.abuse_contact",
    "address": "http.base_url",
    "listens on": "http.host",
}


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--name", help="Host name of this relay; that of the machine if not given.")
@click.option("--operator", help="Who runs it, as destinations see it; its domain if not given.")
@click.option("--host", help="Address to listen on; all with a certificate, else loopback.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65_535))
@click.option("--base-url", help="Address that others use; made of name and port if not given.")
@click.option("--region", help="Where it stands, for people; the time zone if not given.")
@click.option("--abuse-contact", help="Whom to tell of abuse; abuse@ its domain if not given.")
def init(  # noqa: PLR0913, PLR0917 - click's way of giving options
    directory: Path,
    name: str | None,
    operator: str | None,
    host: str | None,
    port: int,
    base_url: str | None,
    region: str | None,
    abuse_contact: str | None,
) -> None:
    """Make the settings and the key of a new relay in DIRECTORY."""
    become_owner(directory)
    name = name or finding.find_name()
    certificate = finding.find_certificate(directory, name)
    host = host or ("127.0.0.1" if certificate is None else "0.0.0.0")  # noqa: S104 - a relay's job
    secure = f"https://{name}" + ("" if port == _HTTPS_PORT else f":{port}")
    url = (base_url or (f"http://{host}:{port}" if certificate is None else secure)).rstrip("/")
    try:
        require_host_name(name, what="relay name")
        require_base_url(url)
    except FormatError as exc:
        raise SettingsError(exc.message, hint="give another --name or --base-url") from exc
    domain = finding.domain_of(name)
    given: dict[str, str | int] = {
        "relay.name": name,
        "relay.operator": operator or domain,
        "relay.region": finding.find_region() if region is None else region,
        "relay.abuse_contact": f"abuse@{domain}" if abuse_contact is None else abuse_contact,
        "http.host": host,
        "http.port": port,
        "http.base_url": url,
        "limits.reserve_bytes": finding.kept_back(directory),
    }
    if certificate is not None:
        given |= {
            "http.certificate_path": str(certificate.chain),
            "http.key_path": str(certificate.key),
        }
    key = _make(directory, given, host=host, port=port)
    _tell(directory, given, key, is_reachable=certificate is not None or base_url is not None)


def _make(directory: Path, given: Mapping[str, str | int], *, host: str, port: int) -> SigningKey:
    """Write everything that makes a relay; nothing that is there is replaced."""
    settings_path, key_path = directory / FILE_NAME, directory / "keys" / "relay.key"
    for path in (settings_path, key_path):
        if path.exists():
            raise SettingsError(
                f"{path} exists already", hint="choose another folder; nothing was changed"
            )
    key = SigningKey.generate(str(given["relay.name"]))
    make_directories(key_path.parent)
    # A crash here leaves a key without settings: init refuses to replace it, nothing has used it.
    write_atomically(key_path, encode_note_key(key))
    place = Place(directory.absolute(), finding.find_program(), finding.find_user(), host, port)
    make_directories(directory / UNITS)
    for file, text in units(place).items():
        write_atomically(directory / UNITS / file, text.encode())
    write_atomically(settings_path, settings_text(given).encode())
    return key


def _tell(
    directory: Path, given: Mapping[str, str | int], key: SigningKey, *, is_reachable: bool
) -> None:
    """What was made, what was found out, and what comes next."""
    folder = directory.absolute()
    click.echo(f"Made a relay in {folder}: {FILE_NAME}, keys/relay.key, {UNITS}/.")
    click.echo(f"What was found out or given stands in {FILE_NAME}; correct it there:")
    for label, name in _SHOWN.items():
        click.echo(f"  {label:<12} {given[name] or 'none'}")
    kept_back = format_size(int(given["limits.reserve_bytes"]))
    click.echo(f"  {'kept back':<12} {kept_back} of the disk, never given to fragments")
    if not is_reachable:
        click.echo("  Only this machine reaches that address: put a certificate into tls/, or a")
        click.echo("  reverse proxy before it, and set http.base_url (and certificate_path).")
    click.echo()
    click.echo("Give these to the destinations that want to name your relay, and back up keys/:")
    click.echo(f"vkey         {key.verifier.format()}")
    click.echo(f"fingerprint  {key.verifier.fingerprint()}")
    click.echo()
    click.echo("Next:")
    if owner_name(directory.stat().st_uid) == "root":
        # Whoever runs the unit must be able to read what root has made.
        user = finding.ROOTS_USER
        click.echo(f"  sudo useradd --system --home-dir {folder} {user}")
        click.echo(f"  sudo chown -R {user}: {folder}")
    click.echo(f"  bistro-relay allow https://DESTINATION --dir {folder}")
    click.echo(f"  sudo cp {folder}/{UNITS}/* /etc/systemd/system/")
    click.echo("  sudo systemctl daemon-reload && sudo systemctl enable --now bistro-relay")
    click.echo(f"  bistro-relay doctor --dir {folder}")


def settings_text(given: Mapping[str, str | int]) -> str:
    """A settings file with every key: ``given`` ones set, all others as comments."""
    lines = ["# Settings of a bistro relay; see docs/reference/settings.md.", ""]
    section = ""
    for key in keys_of(Settings):
        table, _, name = key.name.partition(".")
        if table != section:
            section = table
            lines += [f"[{table}]"]
        lines += [f"# {key.description}", _line(name, key, given), ""]
    return "\n".join(lines)


def _line(name: str, key: Key, given: Mapping[str, str | int]) -> str:
    if key.name in given:
        return f"{name} = {json.dumps(given[key.name], ensure_ascii=False)}"
    default: Any = key.field.default
    if default is None:
        example = _EXAMPLES.get(key.name)
        return f"# {name} is not set" if example is None else f"# {name} = {example}"
    shown = str(default) if isinstance(default, Path) else default
    return f"# {name} = {json.dumps(shown, ensure_ascii=False)}"


@click.command()
@click.argument("url")
@directory_option
@click.option("--trust", help="The vkey it must have; without it the one it shows is pinned.")
@click.option("--quota-bytes", type=click.IntRange(min=1), help="Most bytes held for it.")
def allow(url: str, directory: Path, trust: str | None, quota_bytes: int | None) -> None:
    """Hold fragments for the destination at URL.

    A running relay takes notice by itself.
    """
    settings = load_settings(directory)
    key = None if trust is None else parse_trust(trust)

    async def ask() -> Allowed:
        terms = settings.terms
        async with Session(allow_http=terms.allow_http, ca_path=terms.ca_path) as session:
            return await allow_destination(
                session,
                settings.relay.data_path,
                SystemClock(),
                url,
                trust=key,
                quota_bytes=quota_bytes,
            )

    done = asyncio.run(ask())
    destination = done.destination
    met = "Allowed, and its key pinned" if done.is_new else "Allowed, as before"
    click.echo(f"{met}: {destination.server}")
    click.echo(f"vkey         {destination.key.format()}")
    click.echo(f"fingerprint  {destination.key.fingerprint()}")
    if done.is_new and key is None:
        click.echo("Compare the fingerprint with the destination's operator.")
    quota = destination.quota_bytes
    click.echo(f"quota        {'none of its own' if quota is None else f'{quota} bytes'}")
    click.echo(f"calls        {', '.join(done.calls) or 'none yet'}")
