"""Runs the command line of an operator's program: whatever happens, two lines and an exit code.

The exit code says what kind of error it was, the first line what was found and expected, the
second what to do. A bug is no exception: its traceback goes to a file. A machine that fails is
none, wherever it is met.

Source: docs/spec/commands.md, exit codes.
"""

from __future__ import annotations

import errno
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Final, NoReturn

import click

from bistro.errors import BistroError, SettingsError, StorageError
from bistro.wire.document import Json, encode_json

INTERRUPTED_EXIT: Final = 130

_NEXT: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "`{program} doctor` names what is wrong here",
        2: "change the command or the settings file; see `{program} --help`",
        3: "the message says why; the same command will be refused again",
        4: "do not trust this object or this peer; keep it as evidence",
        5: "run the same command again, later",
    }
)
"""What to do where an error itself does not say it, by exit code."""

_MACHINE: Final = frozenset(
    {
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENODEV,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ENXIO,
        errno.EROFS,
        errno.ESTALE,
    }
)
"""What the system says where disk or memory fail or are used up; no program can do better."""


def run_commands(group: click.Group, *, program: str) -> NoReturn:
    """Run the command that ``sys.argv`` names, and end the process as the specification says.

    Args:
        group: All commands.
        program: The name of the program, for the second line of an error.
    """
    sys.excepthook = partial(_tell_of_bug, program)
    try:
        code = group.main(prog_name=program, standalone_mode=False)
    except BrokenPipeError:
        # Whoever read our output went away; there is nobody left to tell.
        sys.stderr.close()
        sys.exit(1)
    except (BistroError, OSError, BaseExceptionGroup) as exc:
        # Of several parts of a daemon that failed at once the first that says what to do.
        known = next(filter(None, map(_known, _leaves(exc))), None)
        if known is None:
            raise
        _end_with(known, program)
    except click.ClickException as exc:
        _end_with_usage(exc, program)
    except (click.Abort, KeyboardInterrupt):
        _tell("interrupted", "interrupted", "nothing is lost: run the command again")
        sys.exit(INTERRUPTED_EXIT)
    sys.exit(code if isinstance(code, int) else 0)


def _end_with(error: BistroError, program: str) -> NoReturn:
    hint = error.hint or _NEXT[error.exit_code].format(program=program)
    _tell(error.code, error.message, hint)
    sys.exit(error.exit_code)


def _end_with_usage(error: click.ClickException, program: str) -> NoReturn:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        sys.exit(SettingsError.exit_code)
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = program if context is None else context.command_path
    _end_with(SettingsError(error.format_message(), hint=f"see `{command} --help`"), program)


def _known(error: BaseException) -> BistroError | None:
    """What to tell of an error that is no bug."""
    if isinstance(error, OSError) and error.errno in _MACHINE:
        place = "" if error.filename is None else f"{error.filename}: "
        return StorageError(f"{place}{error.strerror}", hint="check the disk and the memory")
    return error if isinstance(error, BistroError) else None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _tell(code: str, message: str, hint: str) -> None:
    if "--json" in sys.argv[1:]:
        found: Json = {"error": {"code": code, "hint": hint, "message": message}}
        click.echo(encode_json(found).decode())
        return
    click.echo(f"error: {message}", err=True)
    click.echo(f"next: {hint}", err=True)


def _tell_of_bug(
    program: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Two lines instead of a traceback, which goes to a file; Python then exits with 1."""
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"{program}-bug-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.writelines(traceback.format_exception(kind, error, trace))
    message = f"a bug in {program}: {kind.__name__}: {error}"
    hint = f"what was promised is on disk and `{program}` may go on; please report {file.name}"
    _tell("internal", message, hint)
