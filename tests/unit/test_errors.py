"""The catalogue of errors: codes, HTTP statuses and exit codes."""

from __future__ import annotations

import pytest

from bistro import errors

CATALOGUE = {
    "malformed": (400, 3),
    "not-verified": (422, 4),
    "refused": (403, 3),
    "deadline-passed": (403, 3),
    "not-open": (403, 3),
    "not-registered": (403, 3),
    "checksum-mismatch": (460, 4),
    "conflict": (409, 3),
    "unknown-object": (404, 3),
    "limit-exceeded": (413, 3),
    "unavailable": (503, 5),
    "overloaded": (503, 5),
    "relay-full": (507, 5),
    "storage": (500, 1),
    "settings": (500, 2),
}


@pytest.mark.parametrize("code", CATALOGUE)
def test_each_code_keeps_its_status_and_exit_code(code: str) -> None:
    """Codes are protocol: programs of other versions know them by these numbers."""
    cls = errors.catalogue()[code]
    assert (cls.http_status, cls.exit_code) == CATALOGUE[code]


def test_no_two_errors_share_a_code() -> None:
    """A code leads back to one class."""
    for code, cls in errors.catalogue().items():
        assert cls.code == code
        assert "code" in vars(cls)


def test_an_error_keeps_its_message_and_hint() -> None:
    """What was expected, and what to do next, are told apart."""
    error = errors.ConflictError("expected 1, found 2", hint="ask again")
    assert (str(error), error.message, error.hint) == (
        "expected 1, found 2",
        "expected 1, found 2",
        "ask again",
    )


def test_a_code_of_a_peer_becomes_our_error() -> None:
    """Both sides raise the same class for the same reason."""
    error = errors.error_for_code("conflict", "expected 1, found 2", hint="h", retry_after_s=3)
    assert type(error) is errors.ConflictError
    assert (error.message, error.hint) == ("expected 1, found 2", "h")


def test_a_peer_that_is_overloaded_says_when_to_come_back() -> None:
    """The time to wait survives the way over the wire."""
    error = errors.error_for_code("overloaded", "too many", retry_after_s=2.5)
    assert isinstance(error, errors.OverloadedError)
    assert error.retry_after_s == 2.5


@pytest.mark.parametrize("code", ["", "internal", "out-of-ink"])
def test_an_unknown_code_means_that_the_peer_cannot_be_used_now(code: str) -> None:
    """A peer that speaks nonsense is tried again later, not believed."""
    error = errors.error_for_code(code, "x", hint="h")
    assert type(error) is errors.UnavailableError
    assert code in error.message
    assert error.hint == "h"
