"""A relay, once for each way by which requests reach it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.relays import Site, relay_site
from tests.support.ways import Way, asked


@pytest.fixture(params=Way)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """Asked in one way after the other: whatever holds, holds in all."""
    async with relay_site(tmp_path) as found:
        yield await asked(found, request.param)
