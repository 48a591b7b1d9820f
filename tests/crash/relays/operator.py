"""What a relay's operator orders: takedowns, with the command for it.

The command is a life of its own, and dies as any other. What it was to take down may be gone
from then on; if it ended well, it has to be gone once the relay has had the time.

Source: docs/spec/relay-life.md, takedown.
"""

from __future__ import annotations

import random  # noqa: TID251 - passed in, seeded
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.clock import SystemClock
from bistro.ids import Origin
from tests.crash.connections import Asked
from tests.crash.relays.memory import Ordered, RelayMemory
from tests.crash.relays.town import Key

_INDEXES: Final = range(3)
"""All fragments of an envelope."""
_COMMANDS: Final = 0.15
"""In so many lives something is taken down."""
_ALL: Final = 0.5
_HELD: Final = 0.8


@dataclass
class Operator:
    """Gives orders about what a relay may hold.

    Attributes:
        origin: The call.
        keys: What the last command was to take down.
    """

    origin: Origin
    keys: frozenset[Key] = frozenset()

    def arguments(
        self, folder: Path, memory: RelayMemory, chance: random.Random
    ) -> list[str] | None:
        """A takedown of something that the relay was sent; ``None``: none now."""
        known = sorted(memory.held_keys if chance.random() < _HELD else memory.asked_at)
        if not known or chance.random() >= _COMMANDS:
            return None
        commitment, index = chance.choice(known)
        options: list[str] = []
        indexes = set(_INDEXES)
        if chance.random() >= _ALL:
            indexes = {index, chance.choice(_INDEXES)}
            options = [text for one in sorted(indexes) for text in ("--fragment", str(one))]
        self.keys = frozenset((commitment, one) for one in indexes)
        memory.takedown_wanted |= self.keys
        place = [str(self.origin), commitment.hex(), "--dir", str(folder)]
        return ["takedown", *place, *options, "--reason", "A complaint that is right"]

    def ended(self, memory: RelayMemory, status: int) -> None:
        """Remember a command that ended well: from the next life on it counts."""
        if status == 0:
            now = SystemClock().now()
            # Nobody can say at which moment of its life it was: no byte of it is ever sent.
            memory.ordered.append(Ordered(self.keys, Asked(memory.life, 0, 1, now, now)))
