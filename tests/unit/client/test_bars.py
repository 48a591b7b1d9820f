"""Progress on a terminal: it moves, it steps aside, and it goes away; elsewhere there is none."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from bistro_client.cli.bars import Bars
from bistro_client.cli.output import Output
from bistro_client.listening import Level, Notice, Task


class Terminal(Output):
    """Both streams are terminals that remember."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = io.StringIO()
        for name in ("stdout", "stderr"):
            self._consoles[name] = Console(
                file=self.shown, force_terminal=True, width=100, markup=False, highlight=False
            )


def test_a_terminal_shows_bars_and_notices() -> None:
    """Notices stand between bars, results are printed whole, and in the end no bar is left."""
    output = Terminal()
    with Bars(output) as bars:
        bars.begin(Task.SEALING, 1_000)
        bars.advance(Task.SEALING, 500)
        bars.tell(Notice(Level.INFO, "sealed", "sealed: 1,000 bytes"))
        bars.tell(Notice(Level.SUCCESS, "on-time", "YOU ARE ON TIME"))
        bars.begin(Task.SEALING, 2_000)
        bars.advance(Task.SEALING, 2_000)
        bars.end(Task.SEALING)
        bars.end(Task.SEALING)
        bars.advance(Task.UPLOADING, 1)
    text = output.shown.getvalue()
    assert "sealing" in text
    assert "sealed: 1,000 bytes" in text
    assert "YOU ARE ON TIME" in text
    assert "\x1b[1;32m" in text


def test_without_a_terminal_there_are_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """A log file gets the words only, and importing the bars is not paid for."""
    sys.modules.pop("rich.progress", None)
    with Bars(Output()) as bars:
        bars.begin(Task.SEALING, 1_000)
        bars.advance(Task.SEALING, 500)
        bars.tell(Notice(Level.WARNING, "waiting", "nobody answers"))
        bars.end(Task.SEALING)
    assert "rich.progress" not in sys.modules
    found = capsys.readouterr()
    assert found.err == "warning: nobody answers\n"
    assert found.out == ""
