"""``bistro-server filers``: who may file in registered calls.

Every change is one transaction; a running ``serve`` honours it within a second.

Source: docs/spec/commands.md; docs/spec/admission.md.
"""

from __future__ import annotations

from pathlib import Path

import click

from bistro.crypto.keyfile import filer_fingerprint
from bistro.errors import FormatError, SettingsError
from bistro.wire.document import Json, encode_json
from bistro_server.cli.running import (
    dir_option,
    json_option,
    load,
    print_json,
    run,
    shown,
    system_clock,
)
from bistro_server.services.filer_import import checked, parse_key, require_name
from bistro_server.services.filer_list import Filer, filer_list
from bistro_server.services.folder import ServerFolder


@click.group()
def filers() -> None:
    """Register filers by their public keys.

    \b
    Examples:
      bistro-server filers add 5f3c… --name "Town of Aldea"
      bistro-server filers import agencies.csv
      bistro-server filers revoke 5f3c…
    """  # noqa: D301 - click reads the backspace


@filers.command()
@click.argument("key", metavar="KEY")
@click.option("--name", required=True, help="What people call the filer, one line.")
@dir_option
@json_option
def add(folder: ServerFolder, key: str, name: str, *, as_json: bool) -> None:
    """Register the filer who has KEY, as bistro keys show prints it."""
    settings = load(folder)
    found = _key(key)
    try:
        require_name(name)
    except FormatError as exc:
        raise SettingsError(exc.message, hint="correct --name") from exc

    async def work() -> int:
        async with filer_list(folder, system_clock(settings)) as known:
            return await known.put([(found, name)])

    run(work())
    if as_json:
        print_json({"added": 1, "fingerprint": filer_fingerprint(found), "key": found.hex()})
    else:
        click.echo(f"registered    {name}\nkey           {found.hex()}")
        click.echo(f"fingerprint   {filer_fingerprint(found)}")
        click.echo("Compare the fingerprint with the filer's: bistro keys show.", err=True)


@filers.command("import")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@dir_option
@json_option
def import_filers(folder: ServerFolder, file: Path, *, as_json: bool) -> None:
    """Register all filers of FILE, CSV with the columns key and name or JSON lines, or none.

    A key that is known gets the name in FILE and counts again if it was revoked.
    """
    settings = load(folder)

    async def work() -> int:
        # Read and checked before the database is touched: others wait only for the writing.
        with checked(file) as rows:
            async with filer_list(folder, system_clock(settings)) as known:
                return await known.put(rows)

    count = run(work())
    if as_json:
        print_json({"imported": count})
    else:
        click.echo(f"imported {count} filers from {file}")


@filers.command()
@click.argument("keys", metavar="KEY…", nargs=-1, required=True)
@dir_option
@json_option
def revoke(folder: ServerFolder, keys: tuple[str, ...], *, as_json: bool) -> None:
    """Let each KEY count no more; tickets that it got stay."""
    settings = load(folder)
    found = [_key(key) for key in keys]

    async def work() -> int:
        async with filer_list(folder, system_clock(settings)) as known:
            return await known.revoke(found)

    count = run(work())
    if as_json:
        print_json({"revoked": count})
    else:
        click.echo(f"revoked {count} of {len(found)}; the others were revoked before")


@filers.command("list")
@dir_option
@json_option
def list_filers(folder: ServerFolder, *, as_json: bool) -> None:
    """List all filers by key, those that were revoked, too."""
    settings = load(folder)

    async def work() -> int:
        count = 0
        async with filer_list(folder, system_clock(settings)) as known:
            if as_json:
                click.echo('{"filers":[', nl=False)
            # One by one: a list of a million is never in memory as a whole.
            async for one in known.all():
                shown_as = _piece(one, is_first=not count) if as_json else _line(one)
                click.echo(shown_as, nl=not as_json)
                count += 1
            if as_json:
                click.echo("]}")
        return count

    if not run(work()) and not as_json:
        click.echo("There are no filers yet: see bistro-server filers add --help.", err=True)


def _piece(one: Filer, *, is_first: bool) -> str:
    document: dict[str, Json] = {
        "added_at": one.added_at,
        "fingerprint": filer_fingerprint(one.key),
        "key": one.key.hex(),
        "name": one.name,
        "revoked_at": one.revoked_at,
    }
    return ("" if is_first else ",") + encode_json(document).decode()


def _line(one: Filer) -> str:
    state = "" if one.revoked_at is None else f"  revoked {shown(one.revoked_at)}"
    return f"{one.key.hex()}  {one.name}{state}"


def _key(text: str) -> bytes:
    try:
        return parse_key(text)
    except FormatError as exc:
        raise SettingsError(exc.message, hint="ask the filer for bistro keys show") from exc
