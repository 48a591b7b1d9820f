"""The description that a relay serves of itself says what it answers, and no more."""

from __future__ import annotations

import json
from pathlib import Path

from aiohttp import hdrs

from bistro.api import media, routes
from bistro.storage.durable import SYSTEM_DISK
from bistro_relay.app.composition import Surroundings
from bistro_relay.app.serving import _new_app, open_services
from tests.support.clocks import ManualClock
from tests.support.relays import Site, relay_settings

DESCRIPTION = "/openapi.json"
TABLE = {(one.method, one.template) for one in (*routes.RELAY_ROUTES, *routes.DAEMON_ROUTES)}


async def described(site: Site) -> dict[str, dict[str, dict[str, object]]]:
    reply = await site.relay.ask("GET", DESCRIPTION)
    assert (reply.status, reply.headers["Content-Type"]) == (200, media.JSON)
    found = json.loads(reply.body)
    assert found["openapi"] == "3.1.0"
    assert found["servers"] == [{"url": site.relay.url}]
    return dict(found["paths"])


async def test_what_is_described_is_the_table_of_routes(site: Site) -> None:
    """A route that is added without its description fails here, and the other way round."""
    paths = await described(site)
    found = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert found == TABLE


async def test_what_is_answered_is_the_table_of_routes(tmp_path: Path) -> None:
    """But for the methods that only an override names, and HEAD beside GET."""
    around = Surroundings(ManualClock(), SYSTEM_DISK, None)
    async with open_services(relay_settings(tmp_path), around) as services:
        found = {
            (route.method, route.resource.canonical)
            for route in _new_app(services).router.routes()
            if route.resource is not None and route.method != hdrs.METH_ANY
        }
    beside = {("HEAD", path) for method, path in TABLE if method == "GET"}
    assert found == TABLE | beside


async def test_names_of_operations_are_those_of_routes(site: Site) -> None:
    """Unique, and what metrics are labelled with."""
    paths = await described(site)
    names = [str(one["operationId"]) for methods in paths.values() for one in methods.values()]
    assert sorted(names) == sorted(
        one.name for one in (*routes.RELAY_ROUTES, *routes.DAEMON_ROUTES)
    )


async def test_it_is_cached_for_a_short_time(site: Site) -> None:
    """Who knows it is told so."""
    reply = await site.relay.ask("GET", DESCRIPTION)
    again = await site.relay.ask("GET", DESCRIPTION, If_None_Match=reply.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
