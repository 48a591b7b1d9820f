"""Options that several commands share, and the frame in which every command runs.

``command`` is the one place where a command's errors are caught.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bistro.errors import BistroError, SettingsError
from bistro_client.cli.output import Output
from bistro_client.home import Home, default_root
from bistro_client.wording import say

if TYPE_CHECKING:
    from bistro.crypto.signing import VerifierKey
    from bistro_client.keyring import FilerKey

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|min|h|d)?")
_UNITS_MS: Final = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([kMG])(?:bit/s|bps|bit)?")
_UNITS_BITS: Final = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
MAX_PASSPHRASE_SIZE: Final = 4_096


@dataclass(slots=True)
class Frame:
    """What every command has.

    Attributes:
        home: The filer's folder.
        output: Where words go.
    """

    home: Home
    output: Output


@dataclass(frozen=True, slots=True)
class Connection:
    """How a command may talk to others, and unlock keys.

    Attributes:
        allow_http: Whether plain HTTP to other machines is taken.
        ca_file: A private certificate authority, besides the system's.
        patience: Milliseconds after which it gives up; None: when it is too late.
        rate: Bits a second that all uploads together may take; None: all there are.
        passphrase_file: Has the passphrase of a key; None: it is asked for.
    """

    allow_http: bool = False
    ca_file: Path | None = None
    patience: int | None = None
    rate: int | None = None
    passphrase_file: Path | None = None


def framed(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its ``Frame`` as first argument, with the options behind it."""

    @click.option(
        "--home",
        "home",
        envvar="BISTRO_HOME",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Folder of keys, pins and submissions, instead of the platform's; also BISTRO_HOME.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    @functools.wraps(function)
    def run(home: Path | None, *, as_json: bool, **values: Any) -> None:  # noqa: ANN401
        frame = Frame(Home((home or default_root()).absolute()), Output(as_json=as_json))
        try:
            function(frame, **values)
        except BistroError as exc:
            frame.output.error(exc)
            sys.exit(exc.exit_code)

    return run


def read_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """``90s``, ``10m``, ``2h``, ``1d`` in milliseconds; a bare number is seconds."""
    if value is None:
        return None
    match = _DURATION.fullmatch(value)
    if match is None:
        raise click.BadParameter(
            say("options.expected-duration-such", value=value), ctx=ctx, param=param
        )
    return int(match[1]) * _UNITS_MS[match[2] or "s"]


def read_rate(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """``500k``, ``1M``, ``2.5M`` bits a second."""
    if value is None:
        return None
    match = _RATE.fullmatch(value)
    if match is None or not float(match[1]):
        raise click.BadParameter(
            say("options.expected-bits-second", value=value), ctx=ctx, param=param
        )
    return int(float(match[1]) * _UNITS_BITS[match[2]])


def parse_vkeys(texts: tuple[str, ...]) -> tuple[VerifierKey, ...]:
    """The keys that ``--trust`` names.

    Raises:
        SettingsError: One is no vkey.
    """
    from bistro.crypto.signing import VerifierKey  # noqa: PLC0415 - help needs no cryptography

    try:
        return tuple(map(VerifierKey.parse, texts))
    except BistroError as exc:
        raise SettingsError(
            say("options.trust", exc=exc.message), hint=say("options.give-whole-vkey")
        ) from exc


def require_form(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A form type as manifests take it.

    Raises:
        BadParameter: It is empty or too long.
    """
    from bistro.wire.manifest import MAX_FORM_LENGTH  # noqa: PLC0415 - help needs no formats

    if value is not None and not 1 <= len(value) <= MAX_FORM_LENGTH:
        raise click.BadParameter(
            say(
                "options.expected-characters-found",
                MAX_FORM_LENGTH=MAX_FORM_LENGTH,
                value=len(value),
            )
        )
    return value


def require_slot_name(_: click.Context, __: click.Parameter, value: str) -> str:
    """A slot's name.

    Raises:
        BadParameter: It is none.
    """
    from bistro.ids import require_slot  # noqa: PLC0415 - help needs no formats

    try:
        require_slot(value)
    except BistroError as exc:
        raise click.BadParameter(say("options.nothing-was-sent", exc=exc.message)) from exc
    return value


destination = click.option(
    "--to", "url", required=True, metavar="URL", help="Address of the destination."
)

which_call = click.option(
    "--call", metavar="ID", help="Which call; may be left out where only one is open."
)

allow_http = click.option(
    "--allow-http",
    is_flag=True,
    help="Take plain HTTP to other machines too: nothing secret "
    "is sent, but who asks whom can be seen and stopped.",
)

ca_file = click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="PEM file of a private certificate authority, beside the system's.",
)

network = (
    allow_http,
    ca_file,
    click.option(
        "--patience",
        callback=read_duration,
        metavar="TIME",
        help="Give up with exit code 5 when nobody could be reached for this long, such as 10m. "
        "Otherwise the program goes on until it is too late.",
    ),
    click.option(
        "--rate",
        callback=read_rate,
        metavar="RATE",
        help="All uploads together take no more than this, such as 500k or 2M bits a second.",
    ),
)

unlocking = click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Read the key's passphrase from the first line of FILE instead of asking.",
)


def with_network(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of commands that talk to others; they arrive as one ``connection``."""

    @functools.wraps(function)
    def run(
        *,
        allow_http: bool,
        ca_file: Path | None,
        patience: int | None,
        rate: int | None,
        passphrase_file: Path | None = None,
        **values: Any,  # noqa: ANN401
    ) -> None:
        connection = Connection(allow_http, ca_file, patience, rate, passphrase_file)
        function(connection=connection, **values)

    decorated: Callable[..., None] = run
    for option in reversed(network):
        decorated = option(decorated)
    return decorated


def read_passphrase(path: Path) -> str:
    """The first line of a file.

    Raises:
        SettingsError: It is empty or too long.
    """
    with path.open("rb") as file:
        line = file.readline(MAX_PASSPHRASE_SIZE + 1).rstrip(b"\r\n")
    if not line or len(line) > MAX_PASSPHRASE_SIZE:
        raise SettingsError(say("options.expected-passphrase-on", path=path))
    try:
        return line.decode()
    except UnicodeDecodeError as exc:
        raise SettingsError(say("options.passphrase-not-utf", path=path)) from exc


def unlocker(passphrase_file: Path | None) -> Callable[[Path], FilerKey]:
    """How a key file is loaded: its passphrase from a file, or asked for at a terminal."""
    from bistro_client import keyring  # noqa: PLC0415 - help needs no cryptography

    def unlock(path: Path) -> FilerKey:
        if not keyring.is_encrypted(path):
            return keyring.load(path)
        if passphrase_file is not None:
            return keyring.load(path, read_passphrase(passphrase_file))
        if not sys.stdin.isatty():
            raise SettingsError(
                say("options.key-has-passphrase", path=path),
                hint=say("options.name-file-with"),
            )
        return keyring.load(
            path, click.prompt(say("options.passphrase", path=path), hide_input=True, err=True)
        )

    return unlock
