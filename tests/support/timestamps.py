"""Time-stamp requests in DER, piece by piece, and an authority to grant them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import strategies as st

from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp import der
from bistro.crypto.timestamp.request import Query, parse_query
from bistro.crypto.timestamp.token import PREFIX_SIZE, Serials, TokenSigner
from bistro.crypto.timestamp.verification import token_of
from bistro.instant import UnixMillis
from bistro_server.services.authority import Authority
from tests.support.clocks import NOON

POLICY = "2.25.312015433782341952892851618126410201302"
NAME = "permits.example"
ALGORITHMS = {
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
EXTENSION = der.encode(
    der.SEQUENCE, der.encode_object("1.2.3.4"), der.encode(der.OCTET_STRING, b"x")
)


@cache
def authority() -> Authority:
    """The same key and certificate in a whole test run."""
    key = certificates.generate_key()
    begins = UnixMillis(NOON - 3_600_000)
    return Authority(key, (certificates.make_certificate(key, name=NAME, now=begins),))


def issued(
    key: ec.EllipticCurvePrivateKey, *, now: UnixMillis, days: int = 30, root_days: int = 30
) -> tuple[x509.Certificate, x509.Certificate]:
    """A certificate for ``key`` under an issuer of certificates, as one buys it; and the issuer's.

    Valid since an hour before ``now``.
    """
    root_key = certificates.generate_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root of Example")])
    begins = datetime.fromtimestamp(now / 1_000 - 3_600, UTC)

    def builder(
        subject: str, public: ec.EllipticCurvePublicKey, days: int
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(days=days))
        )

    root = (
        builder("Root of Example", root_key.public_key(), root_days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(root_key, SHA256())
    )
    own = (
        builder("Stamps of Example", key.public_key(), days)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .sign(root_key, SHA256())
    )
    return own, root


def signer() -> TokenSigner:
    """Signs as ``authority``."""
    found = authority()
    return TokenSigner(found.key, found.chain, policy=POLICY)


def stamp(
    maker: Authority,
    digest: bytes,
    *,
    time: UnixMillis = NOON,
    accuracy_ms: int = 7,
    nonce: bytes = b"",
    with_certificates: bool = True,
) -> bytes:
    """A token over a SHA-256."""
    flag = der.TRUE if with_certificates else b""
    asked = Request(imprint=imprint(digest=digest), nonce=nonce, flag=flag)
    query = parse_query(asked.encode())
    assert isinstance(query, Query)
    signer = TokenSigner(maker.key, maker.chain, policy=POLICY)
    return token_of(
        signer.grant(query, serial=serials().next(), time=time, accuracy_ms=accuracy_ms)
    )


def der_of(chain: Sequence[x509.Certificate]) -> tuple[bytes, ...]:
    """The bytes of certificates."""
    return tuple(one.public_bytes(Encoding.DER) for one in chain)


def serials() -> Serials:
    """Numbers that begin alike in every test."""
    return Serials(bytes(range(PREFIX_SIZE)))


def imprint(
    name: str = "sha256",
    data: bytes = b"data",
    *,
    digest: bytes | None = None,
    parameters: bytes = der.NULL,
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
        parameters=st.sampled_from([b"", der.NULL]),
    ),
    policy=st.sampled_from([b"", der.encode_object(POLICY)]),
    nonce=st.one_of(st.just(b""), NONCES),
    flag=st.sampled_from([b"", der.TRUE]),
)
"""Requests that are granted."""
