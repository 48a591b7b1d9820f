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
from bistro_relay.cli.reporting import directory_option
from bistro_relay.services.trust import Allowed, parse_trust
from bistro_relay.services.trust import allow as allow_destination
from bistro_relay.settings import DEFAULT_PORT, FILE_NAME, Settings, load_settings

_EXAMPLES: Final = {"clock.assumed_error_ms": "50", "limits.quota_bytes": "500000000000"}


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", required=True, help="Host name of this relay, such as relay.example.net.")
@click.option("--operator", required=True, help="Who runs it, as destinations see it.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65_535))
@click.option("--base-url", help="Address that others use; http://HOST:PORT if not given.")
@click.option("--region", default="", help="Where it stands, for people.")
def init(  # noqa: PLR0913, PLR0917 - click's way of giving options
    directory: Path,
    name: str,
    operator: str,
    host: str,
    port: int,
    base_url: str | None,
    region: str,
) -> None:
    """Make the settings and the key of a new relay in DIRECTORY."""
    url = (base_url or f"http://{host}:{port}").rstrip("/")
    try:
        require_host_name(name, what="relay name")
        require_base_url(url)
    except FormatError as exc:
        raise SettingsError(exc.message, hint="give another --name or --base-url") from exc
    settings_path, key_path = directory / FILE_NAME, directory / "keys" / "relay.key"
    for path in (settings_path, key_path):
        if path.exists():
            raise SettingsError(
                f"{path} exists already", hint="choose another folder; nothing was changed"
            )
    given: dict[str, str | int] = {
        "relay.name": name,
        "relay.operator": operator,
        "relay.region": region,
        "http.host": host,
        "http.port": port,
        "http.base_url": url,
    }
    key = SigningKey.generate(name)
    make_directories(key_path.parent)
    # A crash here leaves a key without settings: init refuses to replace it, nothing has used it.
    write_atomically(key_path, encode_note_key(key))
    write_atomically(settings_path, settings_text(given).encode())
    click.echo(f"Made {settings_path} and {key_path}.")
    click.echo("Give these to the destinations that want to name your relay:")
    click.echo(f"vkey         {key.verifier.format()}")
    click.echo(f"fingerprint  {key.verifier.fingerprint()}")


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
    """Hold fragments for the destination at URL; a running relay takes notice by itself."""
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
