"""A migration that anybody may have run is never changed: databases stay as it left them."""

from __future__ import annotations

import hashlib

import pytest

from bistro_relay.store import schema as relay
from bistro_server.store import schema as server

PINNED = {
    "relay": [
        "032c0f3c5c68df447824fca52c1adfe9bcb27579bbf656dccc69b29419a90eb5",
        "446c86fd236b7c24c610694d370c27452a7edb88babbb90681912531e0ec621b",
        "2403c2a5c32d2ebae8fb8f379f378115698c07fe1748c0021c200e43aae0aef0",
        "535233c43d614b3a2b58e9191e00be55e5e8253e348884a8ae62c68e775eba71",
    ],
    "server": [
        "dc2a740ebed83a1ea83b21009cb16a0e3c29cba0cc58726df468032736a6f141",
        "db34162a6861d77e07ec14a82ba18afc95385829af61ee504e7a5de5886d5075",
        "84bb0aa83a1a7381a3546897945bb47b40ce06f7374a54abbe39fea86d1e326b",
        "86f983e3783ef032089bef8ebcc19cabb57d26e53ff4a8c80d163dc5d02ae35c",
    ],
}
"""SHA-256 of each migration, in order. Add a line for a new one; never change one."""


@pytest.mark.parametrize(
    ("daemon", "migrations"),
    [("relay", relay.MIGRATIONS), ("server", server.MIGRATIONS)],
    ids=["relay", "server"],
)
def test_no_migration_is_ever_changed(daemon: str, migrations: tuple[str, ...]) -> None:
    """Not even a name in one: a folder of an older program would not open any more."""
    found = [hashlib.sha256(one.encode()).hexdigest() for one in migrations]
    assert found == PINNED[daemon]
