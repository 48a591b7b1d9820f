"""Shows the story as tables on a terminal."""

from __future__ import annotations
from rich.console import Console
from tests.e2e.demo.story import Story


def show(console: Console, story: Story) -> None:
    for v in story.verdicts.all:
        console.print(
            "ok " if v.is_kept else "BROKEN", v.promise.value, v.detail, v.faults[:5], markup=False
        )
