"""Keeps the words of servers in this process apart from those of the client under test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


def _drop(*_: object) -> dict[str, object]:
    raise structlog.DropEvent


@pytest.fixture(autouse=True)
def silent_servers() -> Iterator[None]:
    """Servers log nothing: a command's standard output must be its own."""
    before = structlog.get_config()
    structlog.configure(processors=[_drop])
    yield
    structlog.configure(**before)
