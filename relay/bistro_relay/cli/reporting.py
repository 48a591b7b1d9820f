"""What all commands share: the option ``--dir``.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


def directory_option(command: Any) -> Any:  # noqa: ANN401 - click's decorators are untyped
    """The option ``--dir`` of every command after ``init``."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(),
        show_default=True,
        help="Folder that init made.",
    )(command)
