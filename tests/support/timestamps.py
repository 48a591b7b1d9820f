"""Time-stamp requests in DER, piece by piece, and an authority to grant them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from hypothesis import strategies as st

from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp import der
from bistro.crypto.timestamp.token import PREFIX_SIZE, Serials, TokenSigner
from bistro.instant import UnixMillis
from bistro_server.services.timestamps import Authority
from tests.support.clocks import NOON

POLICY = "2.25.312015433782341952892851618126410201302"
NAME = "permits.example"
ALGORITHMS = {
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
NULL = bytes((der.NULL, 0))
EXTENSION = der.encode(
    der.SEQUENCE, der.encode_object("1.2.3.4"), der.encode(der.OCTET_STRING, b"x")
)


@cache
def authority() -> Authority:
    """The same key and certificate in a whole test run."""
    key = certificates.generate_key()
    begins = UnixMillis(NOON - 3_600_000)
    return Authority(key, (certificates.make_certificate(key, name=NAME, now=begins),))


def signer() -> TokenSigner:
    """Signs as ``authority``."""
    found = authority()
    return TokenSigner(found.key, found.chain, policy=POLICY)


def serials() -> Serials:
    """Numbers that begin alike in every test."""
    return Serials(bytes(range(PREFIX_SIZE)))


def imprint(
    name: str = "sha256",
    data: bytes = b"data",
    *,
    digest: bytes | None = None,
    parameters: bytes = NULL,
    oid: str | None = None,
) -> bytes:
    """A message imprint; by default a right one."""
    algorithm = der.encode(der.SEQUENCE, der.encode_object(oid or ALGORITHMS[name]), parameters)
    value = hashlib.new(name, data).digest() if digest is None else digest
    return der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, value))


@dataclass(frozen=True)
class Request:
    """The pieces of a request, each already DER or absent."""

    version: bytes = b"\x02\x01\x01"
    imprint: bytes = imprint()
    policy: bytes = b""
    nonce: bytes = b""
    flag: bytes = b""
    extensions: bytes = b""

    def encode(self) -> bytes:
        """The whole request."""
        return der.encode(
            der.SEQUENCE,
            self.version,
            self.imprint,
            self.policy,
            self.nonce,
            self.flag,
            self.extensions,
        )


def nonce(content: bytes) -> bytes:
    """A nonce whose shortest form is asked for: leading bytes that say nothing go."""
    value = int.from_bytes(content, signed=True)
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return der.encode(der.INTEGER, value.to_bytes(size, signed=True))


NONCES = st.binary(min_size=1, max_size=40).map(nonce)
REQUESTS = st.builds(
    Request,
    imprint=st.builds(
        imprint,
        st.sampled_from(sorted(ALGORITHMS)),
        st.binary(max_size=8),
        parameters=st.sampled_from([b"", NULL]),
    ),
    policy=st.sampled_from([b"", der.encode_object(POLICY)]),
    nonce=st.one_of(st.just(b""), NONCES),
    flag=st.sampled_from([b"", der.TRUE]),
)
"""Requests that are granted."""
