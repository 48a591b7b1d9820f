"""A machine whose clock is wrong: Python imports this at its start, where it is on the path.

``TEST_SHIFT_MS`` says by how much; only a test that wants it puts this folder on the path.
"""

import os
import time

_real = time.time_ns  # noqa: TID251 - this is the clock
_shift_ns = int(os.environ["TEST_SHIFT_MS"]) * 1_000_000  # noqa: TID251 - set by the test


def _shifted() -> int:
    return _real() + _shift_ns


time.time_ns = _shifted  # noqa: TID251
