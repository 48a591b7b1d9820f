"""How commands end: errors as two lines or as JSON, and exit codes.

Source: docs/spec/commands.md, exit codes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bistro.errors import BistroError
from bistro.wire.document import encode_json


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


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Print a ``BistroError`` as the person at the keyboard needs it, and end the process."""
    try:
        yield
    except BistroError as exc:
        if "--json" in sys.argv[1:]:
            problem = {"code": exc.code, "hint": exc.hint, "message": exc.message}
            click.echo(encode_json({"error": problem}).decode())
        else:
            click.echo(f"error: {exc.message}", err=True)
            if exc.hint:
                click.echo(f"next: {exc.hint}", err=True)
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
