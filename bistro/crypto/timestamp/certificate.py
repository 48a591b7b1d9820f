"""Key and certificate of a time-stamping authority: made, read, and held to RFC 3161.

Source: docs/spec/timestamps.md; RFC 3161, section 2.3; RFC 5280.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bistro.errors import FormatError, VerificationError
from bistro.instant import UnixMillis

VALIDITY_DAYS: Final = 3_652
"""Ten years: whoever needs an authority that others trust brings a certificate of theirs."""
MAX_CHAIN_LENGTH: Final = 10

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_COMMON_NAME = 64


def generate_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key from the operating system's randomness."""
    return ec.generate_private_key(ec.SECP256R1())


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The PKCS#8 PEM file of a key; it is not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def decode_key(data: bytes) -> ec.EllipticCurvePrivateKey:
    """The key of a PEM file.

    Raises:
        FormatError: Not a private key on P-256, or an encrypted one.
    """
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise FormatError("time-stamp key: expected an unencrypted private key in PEM") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FormatError("time-stamp key: expected one on the curve P-256")
    return key


def make_certificate(
    key: ec.EllipticCurvePrivateKey, *, name: str, now: UnixMillis
) -> x509.Certificate:
    """A certificate that vouches for itself: for time stamps and nothing else.

    Args:
        key: Of the authority.
        name: Host name of its server.
        now: From when it is valid.
    """
    begins = _EPOCH + timedelta(milliseconds=now)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    # A common name has at most 64 characters; the whole name stands beside it.
    common = name if len(name) <= _MAX_COMMON_NAME else "bistro-server"
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "time stamps"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=VALIDITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )


def encode_chain(chain: Sequence[x509.Certificate]) -> bytes:
    """The PEM file of certificates, the authority's own first."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)


def decode_chain(data: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file.

    Raises:
        FormatError: There is none, more than ``MAX_CHAIN_LENGTH``, or one is damaged.
    """
    try:
        chain = tuple(x509.load_pem_x509_certificates(data))
    except ValueError as exc:
        raise FormatError("time-stamp certificate: expected certificates in PEM") from exc
    if len(chain) > MAX_CHAIN_LENGTH:
        raise FormatError(
            f"time-stamp certificate: expected at most {MAX_CHAIN_LENGTH}, found {len(chain)}"
        )
    return chain


def make_request(key: ec.EllipticCurvePrivateKey, *, name: str) -> bytes:
    """PEM of a request (PKCS #10) for a certificate of ``key``, as issuers take it."""
    common = name if len(name) <= _MAX_COMMON_NAME else "bistro-server"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(purposes, critical=True)
        .sign(key, SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def require_chain(chain: Sequence[x509.Certificate]) -> None:
    """Accept certificates each of which was issued by the next.

    Raises:
        VerificationError: One was not.
    """
    for number, (lower, upper) in enumerate(pairwise(chain), 1):
        try:
            lower.verify_directly_issued_by(upper)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as exc:
            raise VerificationError(
                f"time-stamp certificate: expected certificate {number + 1} of the file to have "
                f"issued certificate {number}, found {upper.subject.rfc4514_string()!r}"
            ) from exc


def validity(certificate: x509.Certificate) -> tuple[UnixMillis, UnixMillis]:
    """From when until when it is valid, both included."""
    begins = (certificate.not_valid_before_utc - _EPOCH) // timedelta(milliseconds=1)
    ends = (certificate.not_valid_after_utc - _EPOCH) // timedelta(milliseconds=1)
    return UnixMillis(begins), UnixMillis(ends)


def require_for_time_stamps(certificate: x509.Certificate) -> None:
    """Accept the certificate of an authority.

    Raises:
        VerificationError: It is for other things too, or for none of this.
    """
    try:
        extensions = certificate.extensions
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound as exc:
        raise VerificationError("time-stamp certificate: it has no extended key usage") from exc
    except (ValueError, x509.DuplicateExtension) as exc:
        raise VerificationError("time-stamp certificate: its extensions are damaged") from exc
    if not purposes.critical or [*purposes.value] != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise VerificationError(
            "time-stamp certificate: expected the critical extended key usage timeStamping alone"
        )
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise VerificationError("time-stamp certificate: it is that of an issuer")
        if isinstance(value, x509.KeyUsage) and not (
            value.digital_signature or value.content_commitment
        ):
            raise VerificationError("time-stamp certificate: its key is not for signatures")


def require_pair(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """Accept a key and the certificate made for it.

    Raises:
        VerificationError: It was made for another key, or not for time stamps.
    """
    require_for_time_stamps(certificate)
    try:
        found = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise VerificationError("time-stamp certificate: its key is unknown to us") from exc
    if found != key.public_key():
        raise VerificationError("time-stamp certificate: it is not that of the time-stamp key")
