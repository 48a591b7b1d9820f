"""``bistro-server init``: make a server's folder, settings and terms key.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

from pathlib import Path

import click

from bistro.clock import SystemClock
from bistro.errors import FormatError, SettingsError
from bistro.ids import require_base_url, require_host_name
from bistro_server.cli.running import json_option, print_json
from bistro_server.services.creating import init_server
from bistro_server.services.folder import ServerFolder
from bistro_server.settings import DEFAULT_PORT, initial_settings


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", required=True, help="Name of the server: a host name with a dot.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    help="TCP port to listen on.",
)
@click.option("--base-url", help="How others reach it; http://HOST:PORT by default.")
@json_option
def init(
    directory: Path, name: str, host: str, port: int, base_url: str | None, *, as_json: bool
) -> None:
    """Make DIRECTORY the folder of a new server. Nothing is overwritten."""
    url = f"http://{host}:{port}" if base_url is None else base_url.rstrip("/")
    try:
        require_host_name(name)
        require_base_url(url)
    except FormatError as exc:
        raise SettingsError(exc.message, hint="correct --name or --base-url") from exc
    folder = ServerFolder(directory.absolute())
    settings = initial_settings(name=name, host=host, port=port, base_url=url)
    vkey = init_server(folder, name=name, settings=settings, now=SystemClock().now())
    if as_json:
        print_json(
            {
                "dir": str(folder.root),
                "fingerprint": vkey.fingerprint(),
                "name": name,
                "vkey": vkey.format(),
            }
        )
        return
    click.echo(f"server       {name}")
    click.echo(f"settings     {folder.settings_file}")
    click.echo(f"vkey         {vkey.format()}")
    click.echo(f"fingerprint  {vkey.fingerprint()}")
    click.echo("Publish the fingerprint where filers find it without this server.", err=True)
