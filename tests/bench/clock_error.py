"""Says openly what is assumed of the clock on machines whose kernel does not know."""

from __future__ import annotations

from typing import Final

from bistro.clock import SystemClock

ASSUMED_MS: Final = 20


def is_known() -> bool:
    """Whether the kernel knows a bound that daemons stamp with."""
    return SystemClock(None).error_bound_ms() is not None


def environment(prefix: str) -> dict[str, str]:
    """Settings for a daemon: an assumed error where the kernel knows none."""
    return {} if is_known() else {f"{prefix}_CLOCK__ASSUMED_ERROR_MS": str(ASSUMED_MS)}


def notes() -> tuple[str, ...]:
    """What the report says about it."""
    if is_known():
        return ()
    return (f"the kernel's clock is not synchronised: an error of {ASSUMED_MS} ms is assumed",)
