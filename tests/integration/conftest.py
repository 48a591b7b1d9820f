"""What many tests of running parts begin with: a relay that serves, a shell at a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.relays import Site, relay_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A relay that serves one destination."""
    async with relay_site(tmp_path) as found:
        yield found
