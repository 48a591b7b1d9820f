"""``serve``: runs the relay until it is told to stop.

Source: docs/spec/commands.md, bistro-relay.
"""

from __future__ import annotations

from pathlib import Path

import click

from bistro import __version__
from bistro.clock import SystemClock, kernel_error_bound_ms
from bistro.daemon import logs, supervise
from bistro_relay.app.composition import Surroundings
from bistro_relay.app.serving import Relay, open_services
from bistro_relay.cli.reporting import directory_option
from bistro_relay.settings import Settings, load_settings

_log = logs.get_logger("serve")


@click.command()
@directory_option
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    help="Processes that end TLS, instead of workers_count in [http]; 0: none but the daemon.",
)
def serve(directory: Path, workers: int | None) -> None:
    """Serve HTTP, hold fragments, release and expire them."""
    settings = load_settings(directory)
    if workers is not None:
        http = settings.http.model_copy(update={"workers_count": workers})
        settings = settings.model_copy(update={"http": http})
    logs.configure(output_format=settings.log.output_format, level=settings.log.level)
    supervise.run_loop(_serve(settings))


async def _serve(settings: Settings) -> None:
    clock = SystemClock(settings.clock.assumed_error_ms)
    async with open_services(settings, Surroundings(clock)) as services:
        relay = Relay.bind(services)
        bound = clock.error_bound_ms()
        if bound is not None and kernel_error_bound_ms() is None:
            _log.warning("clock_error_assumed", bound_ms=bound)
        _log.info(
            "relay_started",
            name=settings.relay.name,
            operator=settings.relay.operator,
            url=settings.http.base_url,
            port=relay.http.port,
            bound_ms=bound,
            version=__version__,
        )
        if (refusal := services.overview.why_refusing()) is not None:
            _log.warning("uploads_refused", message=refusal.message, hint=refusal.hint)
        await supervise.run(relay.parts, on_restart=services.part_metrics.count_restart)
        _log.info("relay_stopped", name=settings.relay.name)
