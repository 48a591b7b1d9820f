"""What all commands share: the folder option, the event loop, errors as people read them.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from bistro.clock import SystemClock
from bistro.errors import BistroError, SettingsError
from bistro.instant import UnixMillis, format_rfc3339
from bistro.wire.document import Json, encode_json
from bistro_server.services.folder import ServerFolder
from bistro_server.settings import ServerSettings, load_settings

T = TypeVar("T")

_USAGE_HINT = "see bistro-server --help"


class _FolderType(click.Path):
    """A folder that ``init`` made."""

    name = "directory"

    def convert(  # type: ignore[override] # a value of ours instead of the path
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> ServerFolder:
        return ServerFolder(Path(str(super().convert(value, param, ctx))).absolute())


def dir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option ``--dir``; it gets ``folder``, a ``ServerFolder``."""
    return click.option(
        "--dir",
        "folder",
        type=_FolderType(file_okay=False),
        default=".",
        show_default=True,
        help="The server's folder, as made by init.",
    )(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option ``--json``; it gets ``as_json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document, also for errors."
    )(command)


def load(folder: ServerFolder) -> ServerSettings:
    """The settings of a server's folder.

    Raises:
        SettingsError: There is no server, or its settings are wrong.
    """
    folder.require_initialised()
    return load_settings(folder.settings_file)


def system_clock(settings: ServerSettings) -> SystemClock:
    """This machine's clock, with the error that the settings assume."""
    return SystemClock(settings.clock.assumed_error_ms)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command that is no daemon; Ctrl-C ends it like any other error of the user."""
    return asyncio.run(main)


def print_json(document: Json) -> None:
    """One canonical JSON document on standard output."""
    click.echo(encode_json(document).decode())


def shown(at: UnixMillis) -> str:
    """A time for people."""
    return format_rfc3339(at)


def exit_with(error: BistroError) -> NoReturn:
    """End the process as the specification says for ``error``, never with a traceback."""
    if "--json" in sys.argv:
        found: Json = {"code": error.code, "hint": error.hint, "message": error.message}
        print_json({"error": found})
    else:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"next: {error.hint}", err=True)
    sys.exit(error.exit_code)


def run_cli(group: click.Group) -> NoReturn:
    """Run the command line of a program; every error ends in ``exit_with``."""
    try:
        code = group.main(standalone_mode=False)
    except BistroError as exc:
        exit_with(exc)
    except click.exceptions.Abort:
        exit_with(SettingsError("interrupted"))
    except KeyboardInterrupt:
        exit_with(SettingsError("interrupted"))
    except click.ClickException as exc:
        exit_with(SettingsError(exc.format_message(), hint=_USAGE_HINT))
    sys.exit(code if isinstance(code, int) else 0)
