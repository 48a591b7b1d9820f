"""A journal that a newer program wrote is known as such, whatever else it holds."""

import pytest

from bistro.protocol.journal import newer_version


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (b'{"news":[],"version":2}', 2),
        (b'{"version":1}', None),
        (b'{"version":0}', None),
        (b'{"version":true}', None),
        (b'{"version":"2"}', None),
        (b"{}", None),
        (b"[2]", None),
        (b'{"version":2', None),
        (b"", None),
    ],
)
def test_only_a_later_version_is_a_newer_programs(data: bytes, version: int | None) -> None:
    """Everything else that is no journal is damage."""
    assert newer_version(data) == version
