"""The line that says whose connection is passed on."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.daemon.preface import (
    MAX_PREFACE_SIZE,
    Introduction,
    Place,
    decode_preface,
    encode_preface,
)
from bistro.errors import FormatError

PORTS = st.integers(min_value=0, max_value=65_535)
PLACES = st.tuples(st.ip_addresses(v=4).map(str), PORTS) | st.tuples(
    st.ip_addresses(v=6).map(str), PORTS
)


@given(peer=PLACES, own=PLACES)
def test_a_preface_names_the_client_again(peer: Place, own: Place) -> None:
    """Where both addresses are of one family the client's place is read back; else none is."""
    line = encode_preface(peer, own)

    assert len(line) <= MAX_PREFACE_SIZE
    same_family = (":" in peer[0]) == (":" in own[0])
    assert decode_preface(line) == (peer if same_family else None)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 2001:db8::1 1 2\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UNKNOWN 192.0.2.1\r\n",
        b"POST /calls/one/tickets HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
    ],
)
def test_what_is_no_preface_is_named(line: bytes) -> None:
    """Any other line is an error that shows it."""
    with pytest.raises(FormatError, match="preface: expected a line of the PROXY protocol"):
        decode_preface(line)


class _Transport(asyncio.Transport):
    """A connection that remembers what is done to it."""

    def __init__(self) -> None:
        super().__init__(extra={"peername": "", "sockname": "a"})
        self.protocol: asyncio.BaseProtocol | None = None
        self.written = b""
        self.is_aborted = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True


class _Owner(asyncio.Protocol):
    """What takes over; echoes."""

    def __init__(self) -> None:
        self.peer: object = None
        self.own: object = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert hasattr(transport, "write")
        self.peer = transport.get_extra_info("peername")
        self.own = transport.get_extra_info("sockname")
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        self.write(data)


def _introduce(*pieces: bytes) -> tuple[_Transport, _Owner]:
    transport, owner = _Transport(), _Owner()
    introduction = Introduction(lambda: owner)
    introduction.connection_made(transport)
    for piece in pieces:
        introduction.data_received(piece)
    return transport, owner


def test_what_takes_over_sees_the_client_and_every_byte() -> None:
    """The peer is the preface's, all else the connection's; bytes behind it are not lost."""
    transport, owner = _introduce(b"PROXY TCP4 192.0.2.1 ", b"192.0.2.2 1 2\r", b"\nGET")

    assert transport.protocol is owner
    assert (owner.peer, owner.own) == (("192.0.2.1", 1), "a")
    assert transport.written == b"GET"


def test_a_client_that_is_not_known_leaves_the_peer_alone() -> None:
    """``UNKNOWN`` hands over the connection as it is."""
    transport, owner = _introduce(b"PROXY UNKNOWN\r\n")

    assert transport.protocol is owner
    assert owner.peer == ""


@pytest.mark.parametrize("pieces", [[b"GET / HTTP/1.1\r\n"], [b"x" * 60, b"x" * 60]])
def test_a_connection_without_a_preface_is_dropped(pieces: list[bytes]) -> None:
    """Nothing is handed over, and a line without an end is not collected for ever."""
    transport, _ = _introduce(*pieces)

    assert transport.is_aborted
    assert transport.protocol is None
