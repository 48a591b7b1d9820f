"""How the library tells what it does: notices for people, and how far a long task is.

The library never prints. A command line, a page or a test listens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Level(StrEnum):
    """How a notice wants to be read."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing worth telling.

    Attributes:
        key: A constant word, for programs and tests.
        text: One or more lines for people; the first letter is as in the middle of a sentence.
    """

    level: Level
    key: str
    text: str


class Task(StrEnum):
    """Work that takes long enough to be watched; counted in bytes."""

    SEALING = "sealing"
    UPLOADING = "uploading"


class Listener(Protocol):
    """Who is told. ``advance`` may be called from any thread, the others from the loop's."""

    def tell(self, notice: Notice) -> None:
        """Something happened."""
        ...

    def begin(self, task: Task, total: int) -> None:
        """A task of ``total`` bytes begins; it may begin again from zero."""
        ...

    def advance(self, task: Task, size: int) -> None:
        """``size`` more bytes are done; negative where some must be done again."""
        ...

    def end(self, task: Task) -> None:
        """The task is over, done or not."""
        ...


class Silent:
    """A listener that does not listen."""

    def tell(self, notice: Notice) -> None:
        """Nothing."""

    def begin(self, task: Task, total: int) -> None:
        """Nothing."""

    def advance(self, task: Task, size: int) -> None:
        """Nothing."""

    def end(self, task: Task) -> None:
        """Nothing."""


SILENT = Silent()
