"""Times as people type them at ``bistro-server``."""

from __future__ import annotations

import pytest

from bistro.daemon.times import parse_time
from bistro.errors import SettingsError
from tests.support.clocks import NOON


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+0s", NOON),
        ("+20s", NOON + 20_000),
        ("+5m", NOON + 300_000),
        ("+2h", NOON + 7_200_000),
        ("+30d", NOON + 30 * 86_400_000),
        ("2026-11-22T13:00:00+01:00", NOON),
    ],
)
def test_relative_and_absolute_times(text: str, expected: int) -> None:
    """Relative ones count from the moment of the command."""
    assert parse_time(text, now=NOON, option="--closes") == expected


@pytest.mark.parametrize(
    "text", ["", "+", "+1", "1h", "+1w", "-1h", "+1.5h", "2026-11-22", "noon", "+999999999d"]
)
def test_other_texts_are_refused_with_the_option(text: str) -> None:
    """The message names where it was typed."""
    with pytest.raises(SettingsError, match="--closes"):
        parse_time(text, now=NOON, option="--closes")
