"""What all commands share: the folder option, the event loop, JSON.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from bistro.clock import SystemClock
from bistro.instant import UnixMillis, format_rfc3339
from bistro.wire.document import Json, encode_json
from bistro_server.services.folder import ServerFolder
from bistro_server.settings import ServerSettings, load_settings

T = TypeVar("T")


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
    """Run a command that is no daemon."""
    return asyncio.run(main)


def print_json(document: Json) -> None:
    """One canonical JSON document on standard output."""
    click.echo(encode_json(document).decode())


def shown(at: UnixMillis) -> str:
    """A time for people."""
    return format_rfc3339(at)
