"""Responses: what is in them, byte for byte, and what a certificate must be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.digest import sha256
from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp import der
from bistro.crypto.timestamp.request import Failure, Query, Rejection, parse_query
from bistro.crypto.timestamp.token import (
    PREFIX_SIZE,
    SERIAL_SIZE,
    Serials,
    TokenSigner,
    encode_accuracy,
    encode_time,
    issuer_and_serial,
    reject,
)
from bistro.errors import FormatError, VerificationError
from bistro.instant import MAX_INSTANT, UnixMillis
from tests.support.clocks import NOON
from tests.support.timestamps import (
    EXTENSION,
    POLICY,
    REQUESTS,
    Request,
    authority,
    serials,
    signer,
)

CONTEXT_0 = 0xA0


class Token:
    """The parts of a response with a token, read with the strict reader."""

    def __init__(self, response: bytes) -> None:
        outer = der.Reader("response", response).nested()
        self.status = outer.whole(der.SEQUENCE)
        content_info = outer.nested()
        outer.end()
        content_info.object()
        signed = content_info.nested(CONTEXT_0).nested()
        assert signed.integer() == b"\x02\x01\x03"
        signed.whole(der.SET)
        content = signed.nested()
        content.object()
        self.info_bytes = content.nested(CONTEXT_0).content(der.OCTET_STRING)
        self.certificates = signed.content(CONTEXT_0) if signed.is_next(CONTEXT_0) else None
        one = signed.nested(der.SET).nested()
        one.integer()
        self.issuer_and_serial = one.whole(der.SEQUENCE)
        one.whole(der.SEQUENCE)
        self.attributes = one.content(CONTEXT_0)
        one.whole(der.SEQUENCE)
        self.signature = one.content(der.OCTET_STRING)
        one.end()
        info = der.Reader("TSTInfo", self.info_bytes).nested()
        assert info.integer() == b"\x02\x01\x01"
        self.policy = info.object()
        self.imprint = info.whole(der.SEQUENCE)
        self.serial = info.integer()
        self.time = info.content(der.GENERALIZED_TIME)
        self.accuracy = info.whole(der.SEQUENCE)
        self.nonce = b"" if info.is_done() else info.integer()
        info.end()


def grant(request: Request, *, time: UnixMillis = NOON, accuracy_ms: int = 10) -> Token:
    query = parse_query(request.encode())
    assert isinstance(query, Query)
    return Token(signer().grant(query, serial=serials().next(), time=time, accuracy_ms=accuracy_ms))


@given(REQUESTS)
def test_a_token_echoes_what_was_asked(request: Request) -> None:
    """Imprint and nonce byte for byte, the certificate exactly if it was wanted."""
    token = grant(request)
    assert token.status == bytes.fromhex("3003020100")
    assert token.imprint == request.imprint
    assert token.nonce == request.nonce
    assert token.policy == der.encode_object(POLICY)
    own = authority().chain[0].public_bytes(serialization.Encoding.DER)
    assert token.certificates == (own if request.flag else None)


@given(REQUESTS)
def test_a_token_is_signed_over_its_sorted_attributes(request: Request) -> None:
    """Digest of the content, digest of the certificate, type; under the tag of a SET."""
    token = grant(request)
    own = authority().chain[0]
    own.public_key().verify(  # type: ignore[union-attr,call-arg]
        token.signature,
        der.encode(der.SET, token.attributes),
        ec.ECDSA(SHA256()),  # type: ignore[arg-type]
    )
    reader = der.Reader("attributes", token.attributes)
    found = [reader.whole(der.SEQUENCE) for _ in range(3)]
    reader.end()
    assert found == sorted(found)
    assert [*map(len, found)] == [28, 49, 57]
    assert found[1].endswith(sha256(token.info_bytes))
    assert found[2].endswith(sha256(own.public_bytes(serialization.Encoding.DER)))
    expected = der.encode(
        der.SEQUENCE, own.issuer.public_bytes(), der.encode_integer(own.serial_number)
    )
    assert token.issuer_and_serial == expected


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "19700101000000Z"),
        (1, "19700101000000.001Z"),
        (10, "19700101000000.01Z"),
        (100, "19700101000000.1Z"),
        (120, "19700101000000.12Z"),
        (1_000, "19700101000001Z"),
        (MAX_INSTANT, "99991231235959.999Z"),
    ],
)
def test_a_time_has_no_zeros_at_its_end(ms: int, text: str) -> None:
    """DER allows one spelling of a fraction."""
    assert encode_time(UnixMillis(ms))[2:].decode() == text


@given(st.integers(0, MAX_INSTANT))
def test_a_time_is_the_time(ms: int) -> None:
    """To the millisecond, in UTC."""
    text = encode_time(UnixMillis(ms))[2:].decode()
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    found = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert found + int(f"{fraction:0<3}") == ms


@pytest.mark.parametrize(
    ("ms", "encoded"),
    [
        (1, "3003800101"),
        (10, "300380010a"),
        (128, "300480020080"),
        (999, "3004800203e7"),
        (1_000, "3003020101"),
        (1_001, "3006020101800101"),
        (200_000, "3004020200c8"),
    ],
)
def test_an_accuracy_is_in_seconds_and_milliseconds(ms: int, encoded: str) -> None:
    """A zero is left out, a millisecond stays below 1,000."""
    assert encode_accuracy(ms).hex() == encoded


@given(st.binary(min_size=PREFIX_SIZE, max_size=PREFIX_SIZE))
def test_serial_numbers_are_positive_and_never_repeated(randomness: bytes) -> None:
    """Of 160 bits, whatever the prefix, and in their shortest form."""
    numbers = Serials(randomness)
    found = [numbers.next() for _ in range(300)]
    assert len(set(found)) == 300
    for one in found:
        assert der.Reader("serial", one).integer() == one
        assert len(one) == 2 + SERIAL_SIZE
        assert one[2] < 0x80
    with pytest.raises(ValueError, match="12 random bytes"):
        Serials(randomness[1:])


@pytest.mark.parametrize(
    ("failure", "bits"),
    [
        (Failure.BAD_ALG, "03020780"),
        (Failure.BAD_REQUEST, "03020520"),
        (Failure.BAD_DATA_FORMAT, "03020204"),
        (Failure.TIME_NOT_AVAILABLE, "0303010002"),
        (Failure.UNACCEPTED_POLICY, "0303000001"),
        (Failure.UNACCEPTED_EXTENSION, "030407000080"),
        (Failure.SYSTEM_FAILURE, "03050600000040"),
    ],
)
def test_a_rejection_is_status_2_with_one_bit(failure: Failure, bits: str) -> None:
    """A list of named bits ends with its last bit."""
    status = der.Reader("response", reject(Rejection(failure, "why"))).nested().nested()
    assert status.integer() == b"\x02\x01\x02"
    assert status.nested().content(der.UTF8_STRING) == b"why"
    assert status.whole(der.BIT_STRING).hex() == bits
    status.end()


@pytest.mark.parametrize(
    ("request_", "failure"),
    [
        (Request(policy=der.encode_object("1.2.3")), Failure.UNACCEPTED_POLICY),
        (Request(extensions=der.encode(CONTEXT_0, EXTENSION)), Failure.UNACCEPTED_EXTENSION),
        (Request(policy=der.encode_object(POLICY)), None),
    ],
    ids=["policy", "extension", "own policy"],
)
def test_an_authority_has_one_policy_and_no_extension(
    request_: Request, failure: Failure | None
) -> None:
    """Whoever names no policy gets that one."""
    query = parse_query(request_.encode())
    assert isinstance(query, Query)
    found = signer().judge(query)
    assert (None if found is None else found.failure) == failure


def test_a_chain_is_sent_sorted() -> None:
    """A SET OF certificates; the token names the first of the chain all the same."""
    own, key = authority().chain[0], certificates.generate_key()
    others = [certificates.make_certificate(key, name=f"{one}.example", now=NOON) for one in "abc"]
    maker = TokenSigner(authority().key, (own, *others), policy=POLICY)
    query = parse_query(Request(flag=der.TRUE).encode())
    assert isinstance(query, Query)
    token = Token(maker.grant(query, serial=serials().next(), time=NOON, accuracy_ms=1))
    reader = der.Reader("certificates", token.certificates or b"")
    found = []
    while not reader.is_done():
        found.append(reader.whole(der.SEQUENCE))
    assert found == sorted(one.public_bytes(serialization.Encoding.DER) for one in (own, *others))
    own_bytes = own.public_bytes(serialization.Encoding.DER)
    assert token.issuer_and_serial == issuer_and_serial(own_bytes)


def test_a_made_certificate_is_for_time_stamps_alone() -> None:
    """Critical extended key usage, no issuer of others, ten years."""
    own = authority().chain[0]
    certificates.require_pair(authority().key, own)
    usage = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage.critical
    assert [*usage.value] == [ExtendedKeyUsageOID.TIME_STAMPING]
    key_usage = own.extensions.get_extension_for_class(x509.KeyUsage)
    assert key_usage.critical
    assert key_usage.value.digital_signature
    assert not key_usage.value.key_cert_sign
    assert not own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    begins, ends = certificates.validity(own)
    assert begins == NOON - 3_600_000
    assert ends - begins == certificates.VALIDITY_DAYS * 86_400_000


def test_a_server_with_a_long_name_has_a_certificate_too() -> None:
    """A common name holds 64 characters only."""
    name = ".".join(["a" * 60] * 4)
    made = certificates.make_certificate(certificates.generate_key(), name=name, now=NOON)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == [name]


def test_key_and_chain_files_are_read_as_they_are_written() -> None:
    """PEM, the authority's own certificate first."""
    found = authority()
    key = certificates.decode_key(certificates.encode_key(found.key))
    assert key.public_key() == found.key.public_key()
    chain = (*found.chain, *found.chain)
    assert certificates.decode_chain(certificates.encode_chain(chain)) == chain


def _pem(key: Any) -> bytes:
    data: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        _pem(ec.generate_private_key(ec.SECP384R1())),
        _pem(ed25519.Ed25519PrivateKey.generate()),
    ],
    ids=["nothing", "nonsense", "P-384", "Ed25519"],
)
def test_another_key_is_no_key_for_tokens(data: bytes) -> None:
    """The templates are those of P-256."""
    with pytest.raises(FormatError, match="time-stamp key"):
        certificates.decode_key(data)


@pytest.mark.parametrize("data", [b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_file_without_certificates_is_malformed(data: bytes) -> None:
    """An empty chain cannot vouch for anything."""
    with pytest.raises(FormatError, match="certificates in PEM"):
        certificates.decode_chain(data)
    many = certificates.encode_chain(authority().chain * 11)
    with pytest.raises(FormatError, match="at most 10"):
        certificates.decode_chain(many)


def _certificate(*extensions: tuple[x509.ExtensionType, bool]) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    key = authority().key
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=1))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(key, SHA256())


STAMPING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
BOTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH])
ISSUER = x509.BasicConstraints(ca=True, path_length=None)
ISSUING = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@pytest.mark.parametrize(
    "extensions",
    [
        (),
        ((STAMPING, False),),
        ((BOTH, True),),
        ((STAMPING, True), (ISSUER, True)),
        ((STAMPING, True), (ISSUING, True)),
    ],
    ids=["no usage", "not critical", "TLS too", "issuer", "key for issuing"],
)
def test_a_certificate_for_other_things_is_not_used(
    extensions: tuple[tuple[x509.ExtensionType, bool], ...],
) -> None:
    """RFC 3161, section 2.3: a key for time stamps is for nothing else."""
    with pytest.raises(VerificationError, match="time-stamp certificate"):
        certificates.require_pair(authority().key, _certificate(*extensions))


def test_a_certificate_of_another_key_is_not_used() -> None:
    """Tokens under it would verify nowhere."""
    with pytest.raises(VerificationError, match="not that of the time-stamp key"):
        certificates.require_pair(certificates.generate_key(), authority().chain[0])
