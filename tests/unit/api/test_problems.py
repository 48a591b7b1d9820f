"""Problem documents."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.api import media
from bistro.api.problems import (
    CODES,
    MAX_PROBLEM_SIZE,
    decode_problem,
    encode_problem,
    problem_headers,
)
from bistro.errors import (
    BistroError,
    ConflictError,
    OverloadedError,
    UnavailableError,
    catalogue,
    error_for_code,
)
from tests.support.vectors import Vector, each_vector

PRINTABLE = st.text(st.characters(codec="utf-8"), max_size=100).filter(str.isprintable)


@pytest.mark.parametrize("code", sorted(catalogue()))
def test_every_error_survives_the_way_through_http(code: str) -> None:
    """Code, words, hint and status; whoever must act learns the same."""
    error = error_for_code(code, "expected 1, found 2", hint="send 1", retry_after_s=1.5)
    found = decode_problem(encode_problem(error), status=error.http_status)
    assert type(found) is type(error)
    assert (found.message, found.hint, found.code) == (error.message, error.hint, code)
    assert getattr(found, "retry_after_s", None) == getattr(error, "retry_after_s", None)


@given(st.sampled_from(sorted(CODES - {"internal"})), PRINTABLE, PRINTABLE)
def test_any_words_survive(code: str, message: str, hint: str) -> None:
    """Decoding undoes encoding."""
    found = decode_problem(encode_problem(error_for_code(code, message, hint=hint)), status=400)
    assert (found.code, found.message, found.hint) == (code, message, hint)


def test_the_time_to_wait_stands_in_the_header_in_whole_seconds() -> None:
    """Rounded up: never too early."""
    error = OverloadedError("too many", retry_after_s=1.2)
    assert problem_headers(error) == {"Content-Type": media.PROBLEM, "Retry-After": "2"}
    assert problem_headers(ConflictError("x")) == {"Content-Type": media.PROBLEM}
    assert problem_headers(OverloadedError("x")) == {"Content-Type": media.PROBLEM}


def test_a_bug_at_the_peer_makes_it_unavailable() -> None:
    """Nobody but its operator can act."""
    found = decode_problem(encode_problem(BistroError("request 17")), status=500, peer="r1")
    assert type(found) is UnavailableError
    assert "r1: request 17" in found.message


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>502 Bad Gateway</html>", "text/html"),
        (b'{"code":"conflict"}', "application/json"),
        (b'{"code":"conflict"}', None),
        (b"", media.PROBLEM),
        (b"[]", media.PROBLEM),
        (b"[" * 10_000, media.PROBLEM),
        (b"\xff", media.PROBLEM),
        (b'{"code":"no-such-code"}', media.PROBLEM),
        (b'{"code":7}', media.PROBLEM),
        (b"{}", media.PROBLEM),
        (b'{"code":"conflict"}' + b" " * MAX_PROBLEM_SIZE, media.PROBLEM),
    ],
)
def test_what_is_no_problem_document_is_a_peer_that_cannot_be_used_now(
    body: bytes, content_type: str | None
) -> None:
    """A proxy in between answers for itself."""
    found = decode_problem(body, status=502, content_type=content_type, peer="r1.example")
    assert type(found) is UnavailableError
    assert found.message == "r1.example: answered HTTP 502 without a problem document"


def test_a_peer_cannot_write_to_our_terminal() -> None:
    """Control characters and endless words of a peer are harmless."""
    body = json.dumps({"code": "conflict", "detail": "a\x1b[2Jb\n" + "x" * 5_000, "hint": 7})
    found = decode_problem(body.encode(), status=409)
    assert found.message.startswith("a\ufffd[2Jb\ufffdx")
    assert len(found.message) == 2_000
    assert found.hint == ""


@pytest.mark.parametrize("wait", [-1, True, "5", 1.5, 10**12, None])
def test_a_time_to_wait_that_is_none_is_ignored(wait: object) -> None:
    """Whole milliseconds of at most a day."""
    body = json.dumps({"code": "overloaded", "retry_after_ms": wait}).encode()
    found = decode_problem(body, status=503)
    assert isinstance(found, OverloadedError)
    assert found.retry_after_s is None


def test_lone_surrogates_do_not_stop_an_answer() -> None:
    """A file name that is no text may stand in a message."""
    assert decode_problem(encode_problem(ConflictError("file \udc80")), status=409).message == (
        "file \ufffd"
    )


@given(st.binary(max_size=300))
def test_any_bytes_decode_to_some_error(body: bytes) -> None:
    """Reading an error never raises another."""
    assert isinstance(decode_problem(body, status=500), BistroError)


@each_vector("problem", "valid")
def test_problem_vectors(vector: Vector) -> None:
    """What another implementation sends and reads."""
    found = decode_problem(vector.data, status=vector["status"])
    assert (found.code, found.http_status) == (vector["code"], vector["status"])
    assert (found.message, found.hint) == (vector["detail"], vector["hint"])
    assert encode_problem(found) == vector.data


@each_vector("problem", "invalid")
def test_nonsense_vectors(vector: Vector) -> None:
    """Never trusted, never fatal."""
    assert decode_problem(vector.data, status=500).code == vector.code
