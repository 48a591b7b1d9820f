"""Smaller sizes, so that what happens to a service in hours happens within one short life.

Called in a forked process before the program runs. Nothing but numbers is changed, all of them
at what the code defines or takes as an argument: files stay as the specification has them, but
that a relay's shared segments are shorter. Processes that start from nothing have the real ones.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Final

PUBLISH_AFTER: Final = 256
"""Entries that make publishing due: the smallest number that a ledger takes."""

SMALL_SIZE: Final = 32_768
SEGMENT_SIZE: Final = 262_144

_LEDGERS: Final[Mapping[str, float]] = {
    "bistro.ledger.merging:FAN_IN": 4,
    "bistro.ledger.merging:_SMALLEST": 256,
}
_RELAYS: Final[Mapping[str, float]] = {
    "bistro_relay.store.shared:SEGMENT_SIZE": SEGMENT_SIZE,
    "bistro_relay.store.shared:SMALL_SIZE": SMALL_SIZE,
    "bistro_relay.store.shared:_BLOCK": 65_536,
    "bistro_relay.store.shelf:MAX_SPARE": 2,
    "bistro_relay.services.tending:MOVE_SIZE": 65_536,
    "bistro_relay.services.takedowns:AGAIN_MS": 100,
    "bistro_relay.services.takedowns:LOOK_S": 0.02,
    "bistro_relay.services.tending:TICK_S": 0.02,
    "bistro_relay.services.writing:CHECKPOINT_SIZE": 65_536,
}


HOLD_MS: Final = 500
KEPT_MS: Final = 700
INCOMPLETE_MS: Final = 2_100
"""Longer than such a call takes anything."""

_ENDS: Final[Mapping[str, float]] = {
    "bistro_relay.services.custody:HOLD_MS": HOLD_MS,
    "bistro_relay.services.keeper:TICK_S": 0.05,
}
_DROPS: Final[Mapping[str, float]] = {
    "bistro_relay.services.ending:KEPT_MS": KEPT_MS,
    "bistro_relay.services.ending:LOOK_MS": 100,
    "bistro.protocol.transfer:INCOMPLETE_MS": INCOMPLETE_MS,
}


def small_ledgers() -> None:
    """Ledgers publish and merge often."""
    from bistro.ledger.ledger import Ledger  # noqa: PLC0415 - only a child needs it

    defaults = Ledger.open.__func__.__kwdefaults__  # type: ignore[attr-defined] # of a function
    defaults["publish_after"] = PUBLISH_AFTER
    _change(_LEDGERS)


def small_relay() -> None:
    """Its ledgers, and shared segments of a few fragments: they fill, empty, move."""
    small_ledgers()
    _change(_RELAYS)


def ending_relay() -> None:
    """Its holds end half a second after ``repair_by``."""
    small_relay()
    _change(_ENDS)


def dropping_relay() -> None:
    """It drops its ledgers soon after that; uploads are not waited for longer."""
    ending_relay()
    _change(_DROPS)


def _change(numbers: Mapping[str, float]) -> None:
    """Set numbers where they are defined, and wherever they were imported by name."""
    for place, number in numbers.items():
        home, _, name = place.partition(":")
        was = getattr(importlib.import_module(home), name)
        for module in list(sys.modules.values()):
            is_ours = getattr(module, "__name__", "").startswith("bistro")
            if is_ours and vars(module).get(name) is was:
                setattr(module, name, number)
