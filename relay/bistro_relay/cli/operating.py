"""``drain``, ``undrain``, ``pause``, ``resume``: what an operator orders; a running relay hears it.

Source: docs/spec/relay-life.md, standing orders; docs/spec/commands.md, bistro-relay.
"""

from __future__ import annotations

from pathlib import Path

import click

from bistro.clock import SystemClock
from bistro.daemon.times import parse_time
from bistro.errors import SettingsError
from bistro.instant import format_rfc3339
from bistro_relay.cli.reporting import directory_option
from bistro_relay.services.orders import give_order
from bistro_relay.settings import load_settings


@click.command()
@directory_option
def drain(directory: Path) -> None:
    """Take nothing new. What has begun, and what is held, goes on."""
    give_order(_data(directory), draining_since=SystemClock().now())
    click.echo("Draining: new uploads are turned away from now on, those that have begun go on.")
    click.echo("What is held stays until destinations release it: see `bistro-relay status`.")
    click.echo("To take uploads again: bistro-relay undrain")


@click.command()
@directory_option
def undrain(directory: Path) -> None:
    """Take new uploads again."""
    give_order(_data(directory), draining_since=None)
    click.echo("New uploads are taken again.")


@click.command()
@directory_option
@click.option(
    "--until",
    required=True,
    help="RFC 3339, or +30m, +2h. Destinations are told to come back then.",
)
def pause(directory: Path, until: str) -> None:
    """Hand nothing over for a while, to leave the line to others."""
    now = SystemClock().now()
    end = parse_time(until, now=now, option="--until")
    if end <= now:
        raise SettingsError(
            f"--until: expected a time to come, found {format_rfc3339(end)}",
            hint="give a later one, such as +2h",
        )
    give_order(_data(directory), paused_until=end)
    click.echo(f"Nothing is handed over until {format_rfc3339(end)}; uploads are taken as always.")
    click.echo("To hand over again before: bistro-relay resume")


@click.command()
@directory_option
def resume(directory: Path) -> None:
    """End a pause; quiet hours of the settings go on."""
    give_order(_data(directory), paused_until=None)
    click.echo("Fragments are handed over again, at the pace of the settings.")


def _data(directory: Path) -> Path:
    return load_settings(directory).relay.data_path
