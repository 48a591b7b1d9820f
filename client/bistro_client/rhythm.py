"""How often to look where submissions stand: soon after news, then less and less often.

Mostly nothing happens for hours, and everybody who filed by one deadline looks at the same
server. But what a relay has lost must be staged again before ``repair_by``, so nobody waits
for more than a part of the time that is left until then.

Source: docs/spec/commands.md, resume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_MS: Final = 300_000
LONGEST_MS: Final = 21_600_000
_PART: Final = 8
"""A wish is seen while at least seven eighths of the time for it are left."""


@dataclass(slots=True)
class Rhythm:
    """Pauses between looks.

    Attributes:
        every_ms: Always this long; None: longer and longer.
    """

    every_ms: int | None = None
    _quiet_count: int = 0

    def pause_ms(self, *, is_quiet: bool, left_ms: int | None) -> int:
        """How long to wait before the next look.

        Args:
            is_quiet: The last look found nothing new, and left nothing to be done.
            left_ms: Until nothing can be staged any more; None: that is not known.
        """
        if self.every_ms is not None:
            return self.every_ms
        self._quiet_count = self._quiet_count + 1 if is_quiet else 0
        longest_ms = LONGEST_MS if left_ms is None else min(LONGEST_MS, left_ms // _PART)
        # The exponent is bounded by what it can change.
        grown_ms = FIRST_MS << min(self._quiet_count, 16)
        return max(FIRST_MS, min(grown_ms, longest_ms))
