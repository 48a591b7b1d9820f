"""Processes that are talked with, line by line; and what it means that the demo cannot go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass


class PerformanceError(Exception):
    """The demo itself cannot go on: a program did not start or ended in an unforeseen way."""


@dataclass(slots=True)
class Companion:
    """A process that is talked with: it gets lines, and answers with lines of JSON."""

    process: asyncio.subprocess.Process
    what: str

    async def require_ready(self) -> None:
        """Wait until it says that it is ready.

        Raises:
            PerformanceError: It says something else, or ended.
        """
        line = await self._line()
        if line != b"ready\n":
            raise PerformanceError(f"{self.what}: expected ready, found {line!r}")

    async def ask(self, request: object) -> AsyncIterator[dict[str, object]]:
        """Ask for something, and take answers until it says that this was all.

        Raises:
            PerformanceError: It ended.
        """
        if self.process.stdin is None:
            raise PerformanceError(f"{self.what}: does not listen")
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        await self.process.stdin.drain()
        while line := await self._line():
            answer = json.loads(line)
            if answer is None:
                return
            yield answer
        raise PerformanceError(f"{self.what}: ended with {await self.process.wait()}; see its log")

    async def leave(self) -> None:
        """Ask it to end, and wait for that.

        Raises:
            PerformanceError: It ended badly.
        """
        if self.process.stdin is not None:
            self.process.stdin.close()
        if await self.process.wait():
            raise PerformanceError(f"{self.what}: ended with {self.process.returncode}")

    async def _line(self) -> bytes:
        return b"" if self.process.stdout is None else await self.process.stdout.readline()
