"""Heads of uploads: the usual one is read, anything else is left, and a claim is a claim."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro_relay.http.upload_head import HeadReader, UploadHead

FIELDS = {
    "Host": "relay.example",
    "Content-Type": "application/offset+octet-stream",
    "Content-Length": "65536",
    "Tus-Resumable": "1.0.0",
    "Upload-Length": "65536",
    "Upload-Metadata": "claim " + base64.b64encode(b"a claim").decode(),
}


def head(fields: dict[str, str], *more: str) -> bytes:
    lines = ["POST /uploads HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), *more, "", ""]
    return "\r\n".join(lines).encode()


def metadata(claim: bytes) -> dict[str, str]:
    return {"Upload-Metadata": "claim " + base64.b64encode(claim).decode()}


def test_the_usual_head_is_read() -> None:
    """In any order and case of names, with fields that do not matter."""
    expected = UploadHead(b"a claim", 65_536)
    assert HeadReader().read(head(FIELDS)) == expected
    turned = {name.upper(): FIELDS[name] for name in reversed(FIELDS)}
    assert HeadReader().read(head(turned, "User-Agent: x", "Connection: keep-alive")) == expected


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=2, max_size=5))
def test_a_later_head_is_read_as_the_first(claims: list[bytes]) -> None:
    """What was learned of one head changes nothing in what the next one says."""
    reader = HeadReader()
    for claim in claims:
        found = reader.read(head({**FIELDS, **metadata(claim)}))
        assert found == UploadHead(claim, 65_536)


@given(st.binary(max_size=200))
def test_no_bytes_in_place_of_a_claim_get_through(data: bytes) -> None:
    """Line ends, further fields, other base64: left to the ordinary server, as in a first head."""
    reader = HeadReader()
    whole = head(FIELDS)
    assert reader.read(whole) is not None
    field = FIELDS["Upload-Metadata"].encode()
    changed = whole.replace(field, b"claim " + data)
    assert reader.read(changed) == HeadReader().read(changed)


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_is_missing_or_twice_is_left(name: str) -> None:
    """The ordinary server says what is wrong."""
    without = {key: value for key, value in FIELDS.items() if key != name}
    assert HeadReader().read(head(without)) is None
    assert HeadReader().read(head(FIELDS, f"{name}: {FIELDS[name]}")) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Length", "65535"),
        ("Content-Length", "065536"),
        ("Upload-Length", "0"),
        ("Tus-Resumable", "0.2.2"),
        ("Content-Type", "text/plain"),
        ("Upload-Metadata", "claim ####"),
        ("Upload-Metadata", "name bGV0dGVy"),
        ("Connection", "close"),
    ],
)
def test_another_value_is_left(name: str, value: str) -> None:
    """Right or wrong: it is not the usual request."""
    assert HeadReader().read(head({**FIELDS, name: value})) is None


@pytest.mark.parametrize(
    "line",
    [
        "Expect: 100-continue",
        "Transfer-Encoding: chunked",
        "Upload-Checksum: sha1 AAAA",
        "X-HTTP-Method-Override: PATCH",
        "Content-Encoding: gzip",
        " folded",
        "no colon",
        "name : value",
        "\x00: x",
    ],
)
def test_a_line_that_asks_for_more_is_left(line: str) -> None:
    """What this does not understand it does not answer."""
    assert HeadReader().read(head(FIELDS, line)) is None
