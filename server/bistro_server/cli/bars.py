"""Progress bars of the commands that take long, on a terminal only."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn


class Bars:
    """A bar for each thing that is worked on; nothing is shown where nobody looks."""

    def __init__(self, *, is_shown: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
            disable=not is_shown,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Leave the bars as they stand."""
        self._progress.stop()

    def show(self, name: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._bars[name], completed=done, total=total)
