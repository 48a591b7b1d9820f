"""``bistro-server serve``: the daemon.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

import click

from bistro.daemon import logs, supervise
from bistro_server import app
from bistro_server.cli.running import dir_option, load, system_clock
from bistro_server.services.folder import ServerFolder


@click.command()
@dir_option
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    help="Processes that end TLS, instead of workers_count in [http]; 0: none but the daemon.",
)
def serve(folder: ServerFolder, workers: int | None) -> None:
    """Serve HTTP, keep the ledgers, close calls.

    A new TLS connection costs many times what a ticket costs. Where most clients come with a
    new one, give the daemon a worker for each core that is to be used for that; the daemon
    itself keeps all else, and one core is enough for it.
    """
    settings = load(folder)
    if workers is not None:
        http = settings.http.model_copy(update={"workers_count": workers})
        settings = settings.model_copy(update={"http": http})
    logs.configure(output_format=settings.log.output_format, level=settings.log.level)
    supervise.run_loop(app.serve(folder, settings, system_clock(settings)))
