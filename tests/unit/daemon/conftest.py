"""Listeners as this machine runs them, and as others do."""

from __future__ import annotations

import pytest

from bistro.daemon import listening
from bistro.daemon.direct import IS_COMPILED


@pytest.fixture(params=["polled", "by the event loop"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who reads connections: a poller where it was compiled, or the event loop."""
    if request.param == "polled":
        if not IS_COMPILED:
            pytest.skip("bistro.daemon._direct was not compiled")
    else:
        monkeypatch.setattr(listening, "new_poller", lambda: None)
    return str(request.param)
