"""Advice of a relay that turned an upload away: which other relays had room.

It is signed by that relay and binds nobody: what does not verify, is late, or is about another
call or relays that the terms do not name counts as not said.

Source: docs/spec/relay-life.md, hints to sister relays.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from bistro.errors import FormatError, UnavailableError, VerificationError
from bistro.instant import UnixMillis
from bistro.wire.clauses import Relay
from bistro.wire.relay_notes import MAX_NOTE_SIZE, Hint
from bistro.wire.terms import Terms

GOOD_MS: Final = 60_000
"""No advice counts for longer, whatever it says."""


def read_hint(
    error: UnavailableError, relay: Relay, terms: Terms, now: UnixMillis
) -> dict[str, int]:
    """The relays that the hint of a refusal names, each with the milliseconds it is good for.

    Args:
        error: The refusal.
        relay: Who refused, as the terms name it.
        terms: Of the call.
        now: The destination's time, as far as it is known.
    """
    if error.sisters is None:
        return {}
    try:
        note = base64.b64decode(error.sisters, validate=True)
        if len(note) > MAX_NOTE_SIZE:
            return {}
        hint = Hint.verify(note, relay.vkey)
    except (binascii.Error, ValueError, FormatError, VerificationError):
        # A relay that signs nonsense has given no advice; the refusal itself counts.
        return {}
    good_ms = min(hint.until - now, GOOD_MS)
    if hint.origin != terms.origin or good_ms <= 0:
        return {}
    known = (one.name for one in hint.sisters if terms.relay(one.name) is not None)
    return dict.fromkeys(known, good_ms)
