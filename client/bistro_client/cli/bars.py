"""Progress bars on a terminal, and notices between them; nothing but notices anywhere else."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from bistro_client.cli.output import Output
from bistro_client.listening import Level, Notice, Task

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LABELS = {
    Task.SEALING: "sealing",
    Task.UPLOADING: "uploading",
}


class Bars:
    """A listener that shows what it is told; use it as a context manager."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._progress = _new_progress(output) if output.err.is_terminal else None
        self._tasks: dict[Task, TaskID] = {}

    def __enter__(self) -> Self:
        """Bars appear when a task begins."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the bars away."""
        self.close()

    def close(self) -> None:
        """Take the bars away, so that last words stand by themselves."""
        if self._progress is not None:
            self._progress.stop()

    def tell(self, notice: Notice) -> None:
        """Print it; bars on standard error step aside for results on standard output."""
        is_shown = self._progress is not None and self._progress.live.is_started
        if self._progress is not None and is_shown and notice.level is Level.SUCCESS:
            self._progress.stop()
            self._output.notice(notice)
            self._progress.start()
        else:
            self._output.notice(notice)

    def begin(self, task: Task, total: int) -> None:
        """Show a bar."""
        self.end(task)
        if self._progress is not None:
            self._tasks[task] = self._progress.add_task(_LABELS[task], total=total)
            self._progress.start()

    def advance(self, task: Task, size: int) -> None:
        """Move it."""
        if self._progress is not None and task in self._tasks:
            self._progress.advance(self._tasks[task], size)

    def end(self, task: Task) -> None:
        """Take it away."""
        if self._progress is not None and task in self._tasks:
            self._progress.remove_task(self._tasks.pop(task))
            if not self._tasks:
                self._progress.stop()


def _new_progress(output: Output) -> Progress:
    from rich.progress import (  # noqa: PLC0415 - costs time that only a terminal is worth
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=output.err,
        transient=True,
    )
