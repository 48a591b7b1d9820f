"""What a command prints: results on standard output, the rest on standard error.

An error is two lines, ``error:`` and ``next:``; with ``--json`` one document.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bistro.errors import BistroError
from bistro.wire.document import Json, encode_json
from bistro_client.listening import Level, Notice
from bistro_client.wording import say

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_WIDTH_OF_FILES = 200
_STYLES = {Level.INFO: "", Level.SUCCESS: "bold green", Level.WARNING: "yellow"}


class Output:
    """Where a command's words go.

    Args:
        as_json: One canonical JSON document instead of text on standard output.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._consoles: dict[str, Console] = {}

    @property
    def out(self) -> Console:
        """Standard output."""
        return self._console("stdout")

    @property
    def err(self) -> Console:
        """Standard error."""
        return self._console("stderr")

    def _console(self, name: str) -> Console:
        if name not in self._consoles:
            from rich.console import Console  # noqa: PLC0415 - help needs no console

            # soft_wrap and width: what is redirected to a file keeps its lines.
            is_terminal = getattr(sys, name).isatty()
            self._consoles[name] = Console(
                stderr=name == "stderr",
                highlight=False,
                markup=False,
                soft_wrap=True,
                width=None if is_terminal else _WIDTH_OF_FILES,
            )
        return self._consoles[name]

    def result(self, document: Json, text: RenderableType | None) -> None:
        """The command's result, in the form that was asked for."""
        if self.as_json:
            sys.stdout.write(encode_json(document).decode() + "\n")
            sys.stdout.flush()
        elif text is not None:
            self.out.print(text)

    def line(self, text: str, style: str = "") -> None:
        """One line of a result; nothing with ``--json``."""
        if not self.as_json:
            self.out.print(text, style=style)

    def notice(self, notice: Notice) -> None:
        """Something happened: good news on standard output, the rest beside it."""
        is_result = notice.level is Level.SUCCESS and not self.as_json
        console = self.out if is_result else self.err
        label = say("output.warning") if notice.level is Level.WARNING else ""
        console.print(label + notice.text, style=_STYLES[notice.level])

    def error(self, error: BistroError, standing: str = "") -> None:
        """What went wrong, where the filer stands, and what to do."""
        self.failure(error.code, error.message, "; ".join(filter(None, (standing, error.hint))))

    def failure(self, code: str, message: str, hint: str) -> None:
        """As ``error``, in words."""
        hint = hint or say("output.try-again-bistro")
        if self.as_json:
            document: Json = {"error": {"code": code, "message": message, "hint": hint}}
            sys.stdout.write(encode_json(document).decode() + "\n")
            sys.stdout.flush()
            return
        self._two(say("output.error"), "bold red", message)
        self._two(say("output.next"), "bold cyan", hint)

    def _two(self, label: str, style: str, text: str) -> None:
        self.err.print(label, style=style, end="")
        self.err.print(text)
