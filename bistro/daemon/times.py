"""Times as people type them: RFC 3339, or ``+20s``, ``+2h``, ``+30d`` from a moment.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

import re
from typing import Final

from bistro.errors import FormatError, SettingsError
from bistro.instant import MAX_INSTANT, UnixMillis, parse_rfc3339

_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RELATIVE = re.compile(r"\+(\d{1,9})([smhd])", re.ASCII)


def parse_time(text: str, *, now: UnixMillis, option: str) -> UnixMillis:
    """The time that ``text`` names.

    Args:
        text: RFC 3339, or ``+`` with a number and one of s, m, h, d.
        now: From when a relative time counts.
        option: Where it was typed, for the message.

    Raises:
        SettingsError: It names none.
    """
    if match := _RELATIVE.fullmatch(text):
        at = now + int(match[1]) * _UNITS_MS[match[2]]
    else:
        try:
            at = parse_rfc3339(text)
        except FormatError as exc:
            raise SettingsError(
                f"{option}: {exc.message}",
                hint="give a time such as 2027-03-31T17:00:00+02:00, or +20s, +2h, +30d",
            ) from exc
    if not 0 <= at <= MAX_INSTANT:
        raise SettingsError(f"{option}: expected a time between 1970 and 9999, found {text!r}")
    return UnixMillis(at)
