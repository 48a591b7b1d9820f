"""``statement`` shows what the relay did for whom; ``takedown`` deletes, and leaves a trace.

Source: docs/spec/relay-life.md; docs/spec/commands.md, bistro-relay.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from bistro.api import routes
from bistro.clock import SystemClock
from bistro.ids import Origin, parse_commitment
from bistro.wire.relay_notes import WHOLE_TIME, Takedown, require_month
from bistro_relay.app.composition import Services
from bistro_relay.app.serving import load_key
from bistro_relay.cli.asking import ask
from bistro_relay.cli.reporting import directory_option
from bistro_relay.services.takedowns import order_takedown
from bistro_relay.settings import load_settings


@click.command()
@directory_option
@click.option("--month", help="Such as 2026-11; without it everything since the beginning.")
def statement(directory: Path, month: str | None) -> None:
    """Print the signed statement of service."""
    settings = load_settings(directory)
    period = WHOLE_TIME if month is None else month
    require_month(period, WHOLE_TIME)

    async def of_stopped(services: Services) -> bytes:
        return services.statements.note(period)

    path = routes.SERVICE.path() if month is None else routes.SERVICE_MONTH.path(month=month)
    click.echo(asyncio.run(ask(settings, path, of_stopped)).decode(), nl=False)


@click.command()
@click.argument("origin")
@click.argument("commitment")
@directory_option
@click.option("--fragment", "fragments", multiple=True, type=click.IntRange(0, 254))
@click.option("--reason", required=True, help="Why; everybody may read it.")
def takedown(
    origin: str, commitment: str, directory: Path, fragments: tuple[int, ...], reason: str
) -> None:
    """Delete what is held of COMMITMENT for ORIGIN (SERVER/CALL).

    This breaks receipts. The signed order stays, the ledger names it, and anybody may read it.
    """
    settings = load_settings(directory)
    key = load_key(settings)
    order = Takedown(
        relay=key.verifier.name,
        at=SystemClock().now(),
        origin=Origin.parse(origin),
        commitment=parse_commitment(commitment),
        fragments=tuple(sorted(set(fragments))) or None,
        reason=reason,
    )
    name = order_takedown(settings.relay.data_path, key, order).hex()
    click.echo("The order is signed and kept. A running relay carries it out within a second,")
    click.echo("a stopped one at its next start; the ledger names it, and uploads are refused.")
    click.echo(f"read it at   {routes.TAKEDOWN.url(settings.http.base_url, takedown=name)}")
