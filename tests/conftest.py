"""Settings that all tests share: how hard hypothesis tries."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Two busy cores make the time of one example say nothing; pytest-timeout bounds each test.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("dev", _PATIENT, max_examples=50)
# Always the same examples: more of them find nothing new the second time, and take minutes of
# the fifteen that a change may be tested for.
settings.register_profile("ci", _PATIENT, max_examples=100, derandomize=True, print_blob=True)
settings.register_profile("nightly", _PATIENT, max_examples=20_000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "dev")
)
