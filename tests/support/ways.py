"""The ways by which a request about uploads reaches a relay; all must be answered alike.

The front that stands before the ordinary server takes whole small fragments on connections
that have asked for nothing else; the ordinary server takes them into memory if they come with
their length, and streams them if they do not.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from tests.support.paper import SPRING
from tests.support.relays import NO_FIELDS, Reply, RunningRelay, Site, hyphened, pieces


class Way(enum.StrEnum):
    """How requests are sent."""

    QUICK = "quick"
    """Each on a connection of its own that says nothing odd: the front sees it first."""
    ORDINARY = "ordinary"
    """With a field that the front leaves to the ordinary server."""
    STREAMED = "streamed"
    """So too, and bodies in chunks, without their length."""


@dataclass
class AskedRelay(RunningRelay):
    """A relay that is asked in one way."""

    way: Way = Way.QUICK

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        fields: Mapping[str, str] = NO_FIELDS,
        **headers: str,
    ) -> Reply:
        fields = {"Tus-Resumable": "1.0.0", **fields, **hyphened(headers)}
        if self.way is not Way.QUICK:
            fields["Connection"] = "close"
        data = pieces(body) if self.way is Way.STREAMED and body is not None else body
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                method, self.url + path, data=data, headers={k: v for k, v in fields.items() if v}
            ) as response,
        ):
            return Reply(response.status, response.headers, await response.read())


async def asked(site: Site, way: Way) -> Site:
    """The same relay, asked in one way; it knows the terms, as the front must."""
    await site.relay.services.book.require(SPRING)
    return Site(AskedRelay(**vars(site.relay), way=way), site.call, site.server)
