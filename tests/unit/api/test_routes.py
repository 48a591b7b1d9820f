"""Routes, media types and numbers in header fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.api import media, routes
from bistro.errors import FormatError

ALL = routes.DAEMON_ROUTES + routes.SERVER_ROUTES + routes.RELAY_ROUTES


def test_every_route_of_the_module_is_in_a_table() -> None:
    """A route that no table lists would not be documented or metered."""
    declared = {value for value in vars(routes).values() if isinstance(value, routes.Route)}
    assert declared == set(ALL)


@pytest.mark.parametrize("table", [routes.SERVER_ROUTES, routes.RELAY_ROUTES])
def test_routes_of_a_daemon_do_not_collide(table: tuple[routes.Route, ...]) -> None:
    """Names are labels, method and template decide who answers."""
    both = table + routes.DAEMON_ROUTES
    assert len({route.name for route in both}) == len(both)
    assert len({(route.method, route.template) for route in both}) == len(both)


def test_a_path_is_filled_and_quoted() -> None:
    """What is filled in never becomes more path, except where the rest is meant."""
    assert routes.TICKETS.path(call="spring") == "/calls/spring/tickets"
    assert routes.TICKETS.path(call="a/../b?c") == "/calls/a%2F..%2Fb%3Fc/tickets"
    assert routes.LOG_TILE.path(call="s", tile="0/x001/067.p/8") == (
        "/calls/s/log/tile/0/x001/067.p/8"
    )
    assert routes.RELAY_TERMS.fields == ("server", "call")


def test_a_query_is_added() -> None:
    """Numbers and texts."""
    assert routes.STAGED.path(query={"after": 7, "limit": 100}) == "/staged?after=7&limit=100"
    assert routes.STAGED.path(query={}) == "/staged"


@pytest.mark.parametrize("base", ["https://r.example/x", "https://r.example/x/"])
def test_an_address_is_below_its_base(base: str) -> None:
    """A trailing slash does not matter."""
    assert routes.BATCHES.url(base) == "https://r.example/x/batches"


@pytest.mark.parametrize("values", [{}, {"call": ""}, {"call": "a", "x": "b"}])
def test_missing_empty_and_unknown_fields_are_bugs(values: dict[str, str]) -> None:
    """A path with a hole leads to another route."""
    with pytest.raises(ValueError, match="route tickets"):
        routes.TICKETS.path(**values, query=None)


@given(st.integers(0, 10**16 - 1))
def test_offsets_are_plain_decimals(offset: int) -> None:
    """As tus writes them."""
    assert routes.parse_offset({routes.OFFSET: str(offset)}) == offset


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "01", "1.0", " 1", "0x1", "\u0661", "1_0", "9" * 17, "9" * 9_999]
)
def test_other_spellings_of_an_offset_are_malformed(text: str) -> None:
    """One number has one spelling."""
    with pytest.raises(FormatError, match="Upload-Offset"):
        routes.parse_offset({routes.OFFSET: text})
    with pytest.raises(FormatError, match="after"):
        routes.parse_number({"after": text}, "after", default=0, maximum=10**15)


def test_a_missing_offset_is_malformed_and_a_missing_number_has_a_default() -> None:
    """An upload without an offset cannot be guessed; a query field can be left out."""
    with pytest.raises(FormatError, match="no such field"):
        routes.parse_offset({})
    assert routes.parse_number({}, "limit", default=1_000, maximum=1_000) == 1_000
    assert routes.parse_number({"limit": "5"}, "limit", default=1_000, maximum=1_000) == 5
    with pytest.raises(FormatError, match="0 to 1000"):
        routes.parse_number({"limit": "1001"}, "limit", default=1_000, maximum=1_000)


@pytest.mark.parametrize("found", ["application/msgpack", "Application/MsgPack; charset=x"])
def test_a_media_type_is_compared_without_parameters_and_case(found: str) -> None:
    """RFC 9110 says types are case-insensitive."""
    media.require_media_type(found, media.MSGPACK)


@pytest.mark.parametrize("found", [None, "", "application/json", "application/msgpackx"])
def test_another_media_type_is_malformed(found: str | None) -> None:
    """A form posted by a web page is not taken for a request of ours."""
    with pytest.raises(FormatError, match="content type"):
        media.require_media_type(found, media.MSGPACK)
