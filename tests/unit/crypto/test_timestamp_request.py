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
    read_query,
    recognise,
)
from bistro.errors import FormatError
from tests.support.timestamps import (
    ALGORITHMS,
    EXTENSION,
    NONCES,
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


NOISE = st.builds(
    Request,
    version=st.sampled_from([b"\x02\x01\x01", b"\x02\x01\x02", b"\x02\x02\x00\x01"]),
    imprint=st.one_of(
        st.sampled_from(sorted(ALGORITHMS)).map(imprint),
        st.binary(min_size=28, max_size=66).map(lambda digest: imprint(digest=digest)),
        st.sampled_from([b"", der.NULL, b"\x05\x01\x00"]).map(lambda one: imprint(parameters=one)),
        st.just(imprint("sha1", oid="1.3.14.3.2.26")),
    ),
    policy=st.sampled_from([b"", b"", der.encode_object(POLICY)]),
    nonce=st.one_of(
        st.just(b""),
        NONCES,
        st.binary(max_size=4).map(lambda content: der.encode(der.INTEGER, content)),
        st.binary(max_size=4).map(lambda content: b"\x02" + content),
    ),
    flag=st.sampled_from([b"", der.TRUE, b"\x01\x01\x00", b"\x01\x01"]),
    extensions=st.sampled_from([b"", b"", der.NULL, der.encode(0xA0, EXTENSION)]),
)
"""Requests of which many are almost right."""


@given(st.one_of(NOISE, REQUESTS).map(Request.encode))
@example(Request(imprint=imprint(parameters=b"")).encode())
@example(Request(nonce=b"\x02\x01\x00").encode())
@example(Request(nonce=b"\x02\x01\xff").encode())
@example(Request(nonce=b"\x02\x02\x00\x80").encode())
@example(Request(nonce=b"\x02\x02\xff\x7f").encode())
@example(Request(nonce=b"\x02\x7f").encode())
@example(Request(nonce=b"\x02\xff").encode())
@example(Request(nonce=b"\x02").encode())
@example(Request().encode()[:-1])
@example(Request().encode() + b"\x00")
def test_what_is_known_by_its_bytes_is_what_a_strict_reader_reads(data: bytes) -> None:
    """Where the quick reader has an answer the strict one has the same."""
    found = recognise(data)
    assert found is None or found == read_query(data)
    assert parse_query(data) == read_query(data)


@given(REQUESTS.map(Request.encode), st.data())
def test_a_byte_more_or_less_is_read_the_same_by_both(request: bytes, data: st.DataObject) -> None:
    """Wherever a request is damaged."""
    at = data.draw(st.integers(0, len(request) - 1))
    new = data.draw(st.binary(max_size=2))
    for damaged in (request[:at] + new + request[at + 1 :], request[:at], request[at:]):
        assert parse_query(damaged) == read_query(damaged)


@given(REQUESTS)
def test_usual_requests_are_known_by_their_bytes(request: Request) -> None:
    """Whatever the algorithm, with a nonce or without; only a policy and long ones are read."""
    data = request.encode()
    is_usual = not request.policy and len(data) < 130
    assert (recognise(data) is not None) == is_usual


MALFORMED = {
    "length in long form": b"\x30\x81" + Request().encode()[1:],
    "indefinite length": b"\x30\x80" + Request().encode()[2:] + b"\x00\x00",
    "version is no integer": Request(version=b"\x04\x01\x01").encode(),
    "version is padded": Request(version=b"\x02\x02\x00\x01").encode(),
    "version is empty": Request(version=b"\x02\x00").encode(),
    "no imprint": Request(imprint=b"").encode(),
    "imprint goes on": Request(imprint=der.encode(der.SEQUENCE, imprint()[2:], der.NULL)).encode(),
    "two parameters": Request(imprint=imprint(parameters=der.NULL + der.NULL)).encode(),
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
