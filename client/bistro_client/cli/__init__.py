"""The command line ``bistro``: reads options, calls the library, shows what it does.

Every command lives in a module of its own that is imported only when it runs: ``bistro verify``
starts without a network stack.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import traceback
from types import TracebackType
from typing import Final

import click

from bistro import __version__
from bistro_client.cli.output import Output
from bistro_client.wording import say

_COMMANDS: Final = {
    "submit": ("submit", "Submit files: seal them, get the ticket, stage the fragments."),
    "forecast": ("forecast", "Say how long it will take, and until when to start."),
    "rehearse": ("rehearse", "File canned filings at a call that is kept for tests."),
    "seal": ("seal", "Seal files and get the ticket; somebody else uploads them."),
    "amend": ("amend", "Replace an earlier submission by other files."),
    "withdraw": ("withdraw", "Withdraw an earlier submission."),
    "resume": ("resume", "Go on with submissions that are not finished."),
    "status": ("status", "Show where submissions stand, fetched and verified."),
    "receipt": ("receipt", "Write a page to print: what was filed, when, and its proof."),
    "verify": ("verify", "Check evidence, a ticket, a receipt or a refusal; no network."),
    "keys": ("keys", "Make, show and back up the key that signs what you submit."),
    "completion": ("completion", "Print a script that makes your shell complete commands."),
    "doctor": ("doctor", "Look at network, TLS, clock, disk and keys before it matters."),
}
USAGE_EXIT: Final = 2
INTERRUPTED_EXIT: Final = 130


class _Commands(click.Group):
    """Commands by name, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order that a filer meets them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"bistro_client.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 own disk or a bug, 2 usage, 3 refused, 4 not verified, "
    "5 unavailable: again later, 130 interrupted.",
)
@click.version_option(__version__, prog_name="bistro")
def bistro() -> None:
    """Submit files before a deadline, and prove it.

    You need one small answer before the deadline, the ticket. The data travels afterwards,
    sealed, through relays that nobody has to trust. Everything is written down before it is
    done: stop the program at any moment, `bistro resume` goes on.

    \b
    Examples:
      bistro submit report.pdf annexes/ --to https://permits.example --call spring
      bistro resume
      bistro status
      bistro verify 2026-11-22-173000-spring-3f2a91.evidence.json
    """  # noqa: D301 - click reads the backspace


def main() -> None:
    """Run the command that ``sys.argv`` names, and exit with its code."""
    sys.excepthook = _tell_of_bug
    output = Output(as_json="--json" in sys.argv[1:])
    try:
        bistro.main(standalone_mode=False)
    except click.UsageError as exc:
        command = exc.ctx.command_path if exc.ctx else "bistro"
        output.failure("settings", exc.format_message(), f"see `{command} --help`")
        sys.exit(USAGE_EXIT)
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        output.failure("interrupted", "interrupted", say("main.nothing-lost-run"))
        sys.exit(INTERRUPTED_EXIT)
    except BrokenPipeError:
        # Whoever read our output went away; there is nobody left to tell.
        sys.stderr.close()
        sys.exit(1)


def _tell_of_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Two lines instead of a traceback, which goes to a file; Python then exits with 1."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="bistro-bug-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.writelines(traceback.format_exception(kind, error, trace))
    output = Output(as_json="--json" in sys.argv[1:])
    output.failure(
        "internal",
        say("main.bug-in-bistro", name=kind.__name__, error=error),
        say("main.what-you-submitted", file=file.name),
    )
