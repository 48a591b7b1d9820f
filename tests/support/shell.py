"""``bistro-server`` as a person types it, in this process: output, errors, exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bistro_server import cli
from tests.support.strategies import note_key

RELAY = "https://relay.example=" + note_key("relay.example").verifier.format()


class Shell:
    """Runs commands in this process and keeps what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: object) -> int:
        """The exit code."""
        self._monkeypatch.setattr(sys, "argv", ["bistro-server", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        self.out, self.err = self._capsys.readouterr()
        return int(caught.value.code or 0)

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def create(shell: Shell, root: Path, call: str = "spring", *more: str) -> int:
    """A call that closes in two hours."""
    arguments = ("--dir", root, "--title", "Spring", "--closes", "+2h", "--relay", RELAY)
    return shell("call", "create", call, *arguments, *more)
