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
def serve(folder: ServerFolder) -> None:
    """Serve HTTP, keep the ledgers, close calls; until SIGTERM or Ctrl-C."""
    settings = load(folder)
    logs.configure(output_format=settings.log.output_format, level=settings.log.level)
    supervise.run_loop(app.serve(folder, settings, system_clock(settings)))
