"""Starts workers and keeps them running: one part of the daemon each.

Source: docs/spec/api.md, workers; docs/decisions/0022-workers-end-tls.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.daemon import logs
from bistro.daemon.settings import HttpSettings
from bistro.daemon.worker import WorkerTask
from bistro.errors import SettingsError, UnavailableError

_MODULE: Final = "bistro.daemon.worker"
_LEEWAY_S: Final = 5.0

_log = logs.get_logger("workers")


@dataclass(frozen=True)
class WorkerPart:
    """One worker: runs as long as this part does.

    Attributes:
        number: Which of them, from 1.
        task: What it is told; its ``listener`` is open in this process.
    """

    number: int
    task: WorkerTask

    async def run(self) -> None:
        """Keep a worker until cancelled, then let it finish.

        Raises:
            UnavailableError: It ended by itself; the supervisor starts another.
        """
        # ``-P``: a file of our own directory's name must not be imported instead.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            _MODULE,
            self.task.encode(),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(self.task.listener,),
        )
        _log.info("worker_started", pid=process.pid)
        try:
            code = await process.wait()
        finally:
            await self._end(process)
        raise UnavailableError(f"worker {self.number} ended with {code}")

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Close the pipe, which the worker takes as the end; it is killed if it stays."""
        assert process.stdin is not None  # noqa: S101 - asked for above
        process.stdin.close()
        try:
            async with asyncio.timeout(self.task.grace_s + _LEEWAY_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def worker_parts(
    settings: HttpSettings, listener: socket.socket, inner: Path
) -> dict[str, WorkerPart]:
    """The parts that keep the workers of the settings, by name.

    Args:
        settings: How many, TLS files and limits.
        listener: Where clients connect; all workers take connections from it.
        inner: The Unix socket of the daemon.

    Raises:
        SettingsError: There is no certificate: without TLS a worker takes no load off anybody.
    """
    if settings.certificate_path is None:
        raise SettingsError(
            f"workers end TLS: {settings.workers_count} are wanted, and there is no certificate",
            hint="set certificate_path and key_path in [http], or workers_count to 0",
        )
    task = WorkerTask(
        listener=listener.fileno(),
        daemon=str(inner),
        certificate=str(settings.certificate_path),
        key=str(settings.key_path),
        connections_count=settings.connections_count,
        grace_s=settings.grace_s,
    )
    numbers = range(1, settings.workers_count + 1)
    return {f"worker-{number}": WorkerPart(number, task) for number in numbers}
