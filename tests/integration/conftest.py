"""What many tests of running parts begin with: a relay that serves, a shell at a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from tests.support.relays import Site, relay_site
from tests.support.shell import Shell


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A relay that serves one destination."""
    async with relay_site(tmp_path) as found:
        yield found


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A shell at a server on a machine whose clock is assumed to be good."""
    monkeypatch.setenv("BISTRO_SERVER_CLOCK__ASSUMED_ERROR_MS", "50")
    monkeypatch.setenv("BISTRO_SERVER_DISK__MIN_FREE_BYTES", "0")
    yield Shell(capsys, monkeypatch)
    structlog.reset_defaults()  # serve sent logs to a stream that ends with the test


@pytest.fixture
def root(tmp_path: Path, shell: Shell) -> Path:
    """A new server's folder."""
    folder = tmp_path / "d"
    url = ("--port", "0", "--base-url", "http://127.0.0.1:8440")
    assert shell("init", folder, "--name", "permits.example", *url) == 0
    return folder
