"""The command line of ``bistro-server``.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

import importlib
from typing import Final, NoReturn, cast

import click

from bistro import __version__
from bistro.daemon.commands import run_commands

_COMMANDS: Final = {
    "init": ("init", "init"),
    "serve": ("serve", "serve"),
    "call": ("call", "call"),
    "filers": ("filers", "filers"),
    "collect": ("collect", "collect"),
    "open": ("open", "open_call"),
    "reconcile": ("reconcile", "reconcile"),
    "log": ("log", "log"),
    "tsa": ("tsa", "tsa"),
    "doctor": ("doctor", "doctor"),
}
"""Name of a command, then its module in this package and what it is called there."""


class _Commands(click.Group):
    """Imports a command only when it is used: ``init`` need not wait for a web server."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of a call's life."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name, if there is one."""
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        found = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
        return cast("click.Command", found)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bistro-server")
def cli() -> None:
    """Invite submissions, give tickets, collect and open."""


def main() -> NoReturn:
    """The entry point of ``bistro-server``."""
    run_commands(cli, program="bistro-server")
