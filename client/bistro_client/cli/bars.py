"""Progress bars on a terminal, and notices between them; quiet bars anywhere else."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from bistro_client.cli.output import Output
from bistro_client.listening import Level, Notice, Task

_LABELS = {
    Task.READING: "reading",
    Task.SEALING: "sealing",
    Task.UPLOADING: "uploading",
}


class Bars:
    """A listener that shows what it is told; use it as a context manager."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._progress = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=output.err,
            transient=True,
            disable=not output.err.is_terminal,
        )
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
        self._progress.stop()

    def tell(self, notice: Notice) -> None:
        """Print it; bars on standard error step aside for results on standard output."""
        if notice.level is Level.SUCCESS and self._progress.live.is_started:
            self._progress.stop()
            self._output.notice(notice)
            self._progress.start()
        else:
            self._output.notice(notice)

    def begin(self, task: Task, total: int) -> None:
        """Show a bar."""
        self.end(task)
        self._tasks[task] = self._progress.add_task(_LABELS[task], total=total)
        if not self._progress.disable:
            self._progress.start()

    def advance(self, task: Task, size: int) -> None:
        """Move it."""
        if task in self._tasks:
            self._progress.advance(self._tasks[task], size)

    def end(self, task: Task) -> None:
        """Take it away."""
        if task in self._tasks:
            self._progress.remove_task(self._tasks.pop(task))
        if not self._tasks:
            self._progress.stop()
