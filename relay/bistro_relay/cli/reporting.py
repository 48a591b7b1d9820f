"""What all commands share: the option ``--dir``.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bistro_relay.cli.owning import become_owner


def directory_option(command: Any) -> Any:  # noqa: ANN401 - click's decorators are untyped
    """The option ``--dir`` of every command after ``init``; root goes on as the folder's owner."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(),
        show_default=True,
        callback=_enter,
        help="Folder that init made.",
    )(command)


def _enter(context: click.Context, parameter: click.Parameter, directory: Path) -> Path:
    del context, parameter
    become_owner(directory)
    return directory
