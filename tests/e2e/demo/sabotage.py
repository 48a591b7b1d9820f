"""Breaks things on purpose, so that it can be seen that the demo notices.

Each kind spoils something after the programs have done their part; the demo must then call
exactly the promises broken that this concerns, and end with an exit code other than zero.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.e2e.demo.companions import PerformanceError
from tests.e2e.demo.filings import NAME_MARK
from tests.e2e.demo.scenes import KILLED
from tests.e2e.demo.stage import Site, Stage
from tests.e2e.demo.story import Story

_MOST_AROUND: Final = 8_192
"""A segment's head with its claim, and its end, are smaller than this."""


class Sabotage(StrEnum):
    """What can be spoiled."""

    FRAGMENT = "fragment"
    LEAK = "leak"
    FILING = "filing"
    EVIDENCE = "evidence"

    @property
    def after(self) -> str:
        """The step after which it happens: staging or opening."""
        return "staging" if self in (Sabotage.FRAGMENT, Sabotage.LEAK) else "opening"


def spoil(kind: Sabotage, stage: Stage, story: Story) -> str:
    """Spoil it; a sentence that says what was done."""
    match kind:
        case Sabotage.FRAGMENT:
            relay = stage.relays[KILLED]
            path, size = _signed_segment(relay, story)
            _flip(path, size // 2)
            return f"sabotage: one bit of a fragment flipped at {relay.name}"
        case Sabotage.LEAK:
            relay = stage.relays[0]
            (relay.root / "forgotten.txt").write_text(f"{NAME_MARK}\n", encoding="utf-8")
            return f"sabotage: a file name left behind at {relay.name}"
        case Sabotage.FILING:
            path = next(x for x in _inbox(story, 0).rglob("files/**/*") if x.stat().st_size)
            _flip(path, 0)
            return "sabotage: one bit of an opened file flipped"
        case Sabotage.EVIDENCE:
            path = _inbox(story, 1) / "evidence.json"
            text = path.read_text(encoding="utf-8")
            at = text.index('"ticket":"') + 400
            other = "A" if text[at] != "A" else "B"
            path.write_text(text[:at] + other + text[at + 1 :], encoding="utf-8")
            return "sabotage: one character of a ticket in an evidence file changed"


def _signed_segment(relay: Site, story: Story) -> tuple[Path, int]:
    """The segment of the largest fragment that the relay signed for; an unfinished one is none."""
    receipts = [x for one in story.on_time for x in one.receipts if x.relay == relay.name]
    size = max(receipt.entry.size for receipt in receipts)
    for path in relay.root.rglob("*.segment"):
        if size < path.stat().st_size < size + _MOST_AROUND:
            return path, size
    raise PerformanceError(f"{relay.name}: found no segment of {size} bytes")


def _inbox(story: Story, place: int) -> Path:
    inboxes = [one.inbox for one in story.on_time if one.inbox is not None]
    return inboxes[place]


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
