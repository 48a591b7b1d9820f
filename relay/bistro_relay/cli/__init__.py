"""``bistro-relay``: the commands of a relay's operator.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

from typing import NoReturn

import click

from bistro import __version__
from bistro.daemon.commands import run_commands
from bistro_relay.cli.answering import statement, takedown
from bistro_relay.cli.doctor import doctor
from bistro_relay.cli.operating import drain, pause, resume, undrain
from bistro_relay.cli.serving import serve
from bistro_relay.cli.setup import allow, init
from bistro_relay.cli.status import status


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bistro-relay")
def main_group() -> None:
    """Hold sealed fragments for destinations, as promised and no longer."""


for _command in (
    *(init, allow, serve, status, doctor),
    *(drain, undrain, pause, resume),
    *(statement, takedown),
):
    main_group.add_command(_command)


def main() -> NoReturn:
    """Run a command; ends the process with the documented exit code."""
    run_commands(main_group, program="bistro-relay")
