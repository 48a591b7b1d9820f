"""What ``ticket.rfc3161`` sends is granted, and its floor signs before it answers."""

from __future__ import annotations

import asyncio
from typing import cast

from cryptography.hazmat.primitives.asymmetric import ec

from bistro.crypto.timestamp.request import Query, parse_query
from bistro.crypto.timestamp.token import TokenSigner
from tests.bench.cases.timestamp import _request
from tests.bench.floors.timestamp import DIGEST_SIZE, SigningEcho
from tests.support.clocks import NOON
from tests.support.timestamps import POLICY, Request, authority, serials


class Key:
    """Counts what it is asked to sign."""

    def __init__(self) -> None:
        self.signed: list[bytes] = []

    def sign(self, data: bytes, _: ec.ECDSA) -> bytes:
        self.signed.append(data)
        return b""


class Wire:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def test_what_is_sent_is_a_request_each_time_another() -> None:
    """A server that refuses would be too fast."""
    bodies = [_request().partition(b"\r\n\r\n")[2] for _ in range(20)]
    assert len(set(bodies)) == 20
    for body in bodies:
        query = parse_query(body)
        assert isinstance(query, Query)
        assert query.nonce
        assert not query.wants_certificate


def test_the_floor_signs_as_much_as_a_token_does() -> None:
    """One signature a request, over as many bytes."""
    key, wire = Key(), Wire()
    floor = SigningEcho(b"answer", cast("ec.EllipticCurvePrivateKey", key))
    floor.connection_made(cast("asyncio.Transport", wire))
    floor.data_received(_request() + _request())
    assert [len(one) for one in key.signed] == [DIGEST_SIZE] * 2
    assert len(set(key.signed)) == 2
    assert wire.written == [b"answer"] * 2


def test_a_token_signs_as_much_once() -> None:
    """Whatever was asked."""
    key = Key()
    maker = TokenSigner(cast("ec.EllipticCurvePrivateKey", key), authority().chain, policy=POLICY)
    query = parse_query(Request().encode())
    assert isinstance(query, Query)
    maker.grant(query, serial=serials().next(), time=NOON, accuracy_ms=1)
    assert [len(one) for one in key.signed] == [DIGEST_SIZE]
