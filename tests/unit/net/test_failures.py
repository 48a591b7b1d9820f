"""Failures of the network in plain words; those that loopback cannot produce are made here."""

from __future__ import annotations

import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from bistro.errors import UnavailableError
from bistro.net.failures import translated

KEY = ConnectionKey("relay.example", 443, True, True, None, None, None)


@pytest.mark.parametrize(
    ("error", "words", "hint"),
    [
        (TimeoutError(), "no answer in time", "network"),
        (
            aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "unknown")),
            "no such host name",
            "address",
        ),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "handshake")), "TLS", "clock"),
        (aiohttp.ClientConnectorError(KEY, OSError(113, "No route")), "No route", "address"),
        (aiohttp.ServerDisconnectedError(), "broke before", "later"),
        (aiohttp.ClientOSError(32, "Broken pipe"), "Broken pipe", "later"),
        (aiohttp.ClientConnectionError("odd"), "ClientConnectionError", "later"),
    ],
)
def test_every_failure_is_unavailable_with_a_next_step(
    error: Exception, words: str, hint: str
) -> None:
    """The peer is named, the cause kept, and the reader told what to do."""
    with pytest.raises(UnavailableError, match=words) as caught, translated("relay.example"):
        raise error
    assert caught.value.message.startswith("relay.example: ")
    assert hint in caught.value.hint
    assert caught.value.__cause__ is error


def test_other_errors_pass() -> None:
    """A bug is not taken for a peer that cannot be reached."""
    with pytest.raises(KeyError), translated("relay.example"):
        raise KeyError
