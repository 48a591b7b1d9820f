"""Requests for RFC 3161 time stamps: one encoding each, every fault with its failure."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bistro.crypto.timestamp import der
from bistro.crypto.timestamp.request import (
    MAX_REQUEST_SIZE,
    Failure,
    Query,
    Rejection,
    parse_query,
)
from bistro.errors import FormatError
from tests.support.timestamps import (
    EXTENSION,
    NULL,
    POLICY,
    REQUESTS,
    Request,
    imprint,
)


def failure_of(data: bytes) -> Failure:
    found = parse_query(data)
    assert isinstance(found, Rejection)
    assert found.text.isprintable()
    return found.failure


@given(REQUESTS)
def test_what_a_request_asks_for_is_read(request: Request) -> None:
    """Imprint, policy and nonce are kept byte for byte."""
    assert parse_query(request.encode()) == Query(
        imprint=request.imprint,
        policy=request.policy or None,
        nonce=request.nonce,
        wants_certificate=bool(request.flag),
    )


@given(st.binary(max_size=300))
@example(b"")
@example(b"\x30")
@example(b"\x30\x80\x00\x00")
@example(b"\x30\x84\xff\xff\xff\xff")
@example(b"\x30\xff" + b"\xff" * 200)
@example(b"\x30\x03\x02\x01\x01")
@example(b"\x30\x82\x0f\xfc" + b"\x30\x02" * 2_000)
def test_any_bytes_get_an_answer(data: bytes) -> None:
    """Nothing that is sent raises; noise is badDataFormat."""
    assert failure_of(data) is Failure.BAD_DATA_FORMAT


@given(REQUESTS.map(Request.encode), st.data())
def test_a_damaged_request_is_never_an_error_of_ours(request: bytes, data: st.DataObject) -> None:
    """Changed, cut or prolonged anywhere: a query or a rejection."""
    at = data.draw(st.integers(0, len(request) - 1))
    with_byte = request[:at] + data.draw(st.binary(min_size=1, max_size=1)) + request[at + 1 :]
    assert isinstance(parse_query(with_byte), Query | Rejection)
    assert failure_of(request[:at]) is Failure.BAD_DATA_FORMAT
    assert failure_of(request + b"\x00") is Failure.BAD_DATA_FORMAT


MALFORMED = {
    "length in long form": b"\x30\x81" + Request().encode()[1:],
    "indefinite length": b"\x30\x80" + Request().encode()[2:] + b"\x00\x00",
    "version is no integer": Request(version=b"\x04\x01\x01").encode(),
    "version is padded": Request(version=b"\x02\x02\x00\x01").encode(),
    "version is empty": Request(version=b"\x02\x00").encode(),
    "no imprint": Request(imprint=b"").encode(),
    "imprint goes on": Request(imprint=der.encode(der.SEQUENCE, imprint()[2:], NULL)).encode(),
    "two parameters": Request(imprint=imprint(parameters=NULL + NULL)).encode(),
    "digest too short": Request(imprint=imprint(digest=bytes(31))).encode(),
    "digest of another": Request(imprint=imprint("sha512", digest=bytes(32))).encode(),
    "digest empty": Request(imprint=imprint(digest=b"")).encode(),
    "nonce padded": Request(nonce=b"\x02\x02\x00\x7f").encode(),
    "nonce padded below zero": Request(nonce=b"\x02\x02\xff\x80").encode(),
    "nonce empty": Request(nonce=b"\x02\x00").encode(),
    "false flag": Request(flag=b"\x01\x01\x00").encode(),
    "odd flag": Request(flag=b"\x01\x01\x01").encode(),
    "wide flag": Request(flag=b"\x01\x02\xff\xff").encode(),
    "flag before nonce": Request(nonce=der.TRUE, flag=b"\x02\x01\x01").encode(),
    "policy unfinished": Request(policy=b"\x06\x02\x2a\x83").encode(),
    "policy padded": Request(policy=b"\x06\x03\x2a\x80\x01").encode(),
    "policy padded at once": Request(policy=b"\x06\x02\x80\x01").encode(),
    "policy empty": Request(policy=b"\x06\x00").encode(),
    "no extension in extensions": Request(extensions=b"\xa0\x00").encode(),
    "noise in extensions": Request(extensions=b"\xa0\x02\x05\x00").encode(),
    "unknown field": Request(extensions=b"\xa1\x00").encode(),
    "long tag": Request(imprint=imprint(parameters=b"\x1f\x81\x00")).encode(),
    "too large": Request(nonce=der.encode(der.INTEGER, b"\x01" * MAX_REQUEST_SIZE)).encode(),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_the_one_encoding_is_malformed(name: str) -> None:
    """DER leaves no choice, and a digest has the length of its algorithm."""
    assert failure_of(MALFORMED[name]) is Failure.BAD_DATA_FORMAT


@pytest.mark.parametrize(
    ("request_", "failure"),
    [
        (Request(version=b"\x02\x01\x02"), Failure.BAD_REQUEST),
        (Request(version=b"\x02\x01\x00"), Failure.BAD_REQUEST),
        (Request(imprint=imprint("sha1", oid="1.3.14.3.2.26")), Failure.BAD_ALG),
        (Request(imprint=imprint("md5", oid="1.2.840.113549.2.5")), Failure.BAD_ALG),
        (Request(imprint=imprint(parameters=b"\x04\x00")), Failure.BAD_ALG),
        (Request(version=b"\x02\x01\x02", imprint=imprint(digest=b"")), Failure.BAD_REQUEST),
    ],
    ids=["version 2", "version 0", "sha1", "md5", "parameters", "version comes first"],
)
def test_what_is_not_supported_is_named(request_: Request, failure: Failure) -> None:
    """Well-formed, and still not to be granted."""
    assert failure_of(request_.encode()) is failure


def test_extensions_and_policy_are_judged_by_the_authority() -> None:
    """The request is read all the same."""
    policy = der.encode_object("1.2.3")
    found = parse_query(
        Request(policy=policy, extensions=der.encode(0xA0, EXTENSION, EXTENSION)).encode()
    )
    assert isinstance(found, Query)
    assert found.has_extensions
    assert found.policy == policy


@given(st.integers(0, 1 << 200))
def test_integers_have_their_shortest_form(value: int) -> None:
    """As a strict reader takes them."""
    encoded = der.encode_integer(value)
    assert der.Reader("test", encoded).integer() == encoded
    assert int.from_bytes(encoded[2:], signed=True) == value


@pytest.mark.parametrize("text", ["", "1", "3.1", "1.40", "1.2.", "1.-2", "01.2", "1.2.x", "1.٣"])
def test_other_texts_are_no_object_identifiers(text: str) -> None:
    """What a settings file may hold by mistake."""
    with pytest.raises(FormatError, match="object identifier"):
        der.encode_object(text)


@pytest.mark.parametrize("text", ["0.0", "1.39", "2.999.1", "1.2.840.113549", POLICY])
def test_object_identifiers_are_read_as_they_are_written(text: str) -> None:
    """Also those with numbers of 128 bits."""
    encoded = der.encode_object(text)
    assert der.Reader("test", encoded).object() == encoded
    assert der.encode_object("2.999") == bytes.fromhex("06028837")


@given(st.binary(max_size=70_000))
def test_lengths_of_every_size_are_read(content: bytes) -> None:
    """Short form, and long ones of one to three bytes."""
    reader = der.Reader("test", der.encode(der.OCTET_STRING, content))
    assert reader.content(der.OCTET_STRING) == content
    reader.end()
