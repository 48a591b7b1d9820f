"""Runs ``bistro`` commands inside the test's process, while its servers run in the test's loop."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from bistro_client import cli
from tests.unit.client.worlds import World


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    def require_two_lines(self) -> None:
        """An error is ``error:`` and then ``next:``, at the end, and no traceback."""
        lines = self.err.strip().splitlines()
        assert lines[-2].startswith("error: "), self.err
        assert lines[-1].startswith("next: "), self.err
        assert len(lines[-1]) > len("next: ")
        assert "Traceback" not in self.err


def bistro(*arguments: str | Path) -> Ran:
    """Run a command to its end; blocks."""
    out, err = io.StringIO(), io.StringIO()
    code: int | str | None = 0
    argv = ["bistro", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "excepthook", sys.excepthook),
    ):
        try:
            cli.main()
        except SystemExit as exc:
            code = exc.code
    return Ran(int(code or 0), out.getvalue(), err.getvalue())


async def running_bistro(*arguments: str | Path) -> Ran:
    """Run a command in a thread, so that servers of this loop can answer it."""
    return await asyncio.to_thread(bistro, *arguments)


async def submit(w: World, *more: str | Path, files: Path | None = None) -> Ran:
    """Run ``bistro submit`` at the world's destination, from its home."""
    return await running_bistro(
        "submit", files or w.files(), "--to", w.url, "--home", w.home.root, *more
    )
