"""Who vouches for a token: its signer's certificate, and those above it up to one that is known.

An authority changes the certificate that it signs under from time to time; the one above it stays
for longer. So whoever trusts an authority may name either, and a chain leads from the signer's
certificate to the one that is named. A link holds if the upper certificate is an issuer's, issued
the lower one, and was valid at the time of the stamp. Nothing else of RFC 5280 is looked at:
revocation is told nowhere in a token, and names are for people.

Source: docs/spec/timestamps.md, checking a token of another authority.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from bistro.crypto.digest import sha256
from bistro.crypto.timestamp.certificate import validity
from bistro.crypto.timestamp.token import issuer_and_serial
from bistro.crypto.timestamp.verification import Stamp, certificates_of, verify_token
from bistro.errors import FormatError, VerificationError
from bistro.instant import UnixMillis

MAX_CHAIN_LENGTH: Final = 8
"""Certificates of one token that evidence has room for."""
MAX_CERTIFICATE_SIZE: Final = 16_384
"""Bytes of one of them."""


def verify_chained(token: bytes, chain: Sequence[bytes]) -> Stamp:
    """What a token says, once it and every link of its chain have been found to hold.

    Args:
        token: CMS, DER.
        chain: DER of the signer's certificate, then of the one that issued it, and so on.

    Raises:
        FormatError: Not a token, or not certificates, or of a form that is not understood.
        VerificationError: Something does not hold.
    """
    certificates = [_load(one) for one in chain]
    stamp = verify_token(token, certificates[0])
    for lower, upper in pairwise(certificates):
        if not _has_issued(upper, lower):
            raise VerificationError(
                f"time stamp: certificate {_shown(lower)} was not issued by {_shown(upper)}"
            )
        begins, ends = validity(upper)
        if not begins <= stamp.time <= ends:
            raise VerificationError(
                f"time stamp: certificate {_shown(upper)} was not valid at that time"
            )
    return stamp


def chain_to(token: bytes, trusted: Collection[bytes]) -> tuple[bytes, ...]:
    """The shortest chain from a token's signer to a certificate that is trusted.

    Args:
        token: With or without certificates.
        trusted: DER of certificates of authorities, or of those above them.

    Raises:
        FormatError: Not a token.
        VerificationError: No chain leads from its signer to one of them.
    """
    brought, signer = certificates_of(token)
    pool = _readable([*trusted, *brought])
    found = next((one for one in pool if issuer_and_serial(one) == signer), None)
    chain: list[bytes] = []
    while found is not None and found not in chain and len(chain) < MAX_CHAIN_LENGTH:
        chain.append(found)
        if found in trusted:
            return tuple(chain)
        lower = pool[found]
        found = next((der for der, upper in pool.items() if _has_issued(upper, lower)), None)
    names = ", ".join(_shown(_load(one)) for one in trusted)
    raise VerificationError(f"time stamp: no certificate leads from its signer to {names}")


def _readable(certificates: Sequence[bytes]) -> dict[bytes, x509.Certificate]:
    """Each certificate by its bytes; tokens may bring along things that are none."""
    found: dict[bytes, x509.Certificate] = {}
    for one in certificates:
        with suppress(FormatError):
            found[one] = _load(one)
    return found


def fingerprints(chain: Sequence[bytes]) -> tuple[bytes, ...]:
    """SHA-256 of each certificate: the name under which terms know an authority."""
    return tuple(map(sha256, chain))


def subject_of(certificate: bytes) -> str:
    """The name in a certificate, for people.

    Raises:
        FormatError: Not a certificate.
    """
    return _shown(_load(certificate))


def validity_of(certificate: bytes) -> tuple[UnixMillis, UnixMillis]:
    """From when until when a certificate is valid.

    Raises:
        FormatError: Not a certificate.
    """
    return validity(_load(certificate))


def load_trusted(data: bytes) -> tuple[bytes, ...]:
    """The DER of the certificates in a file: PEM, or the DER of one.

    Raises:
        FormatError: There is none, or one is damaged.
    """
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            certificates = x509.load_pem_x509_certificates(data)
        else:
            certificates = [x509.load_der_x509_certificate(data)]
    except ValueError as exc:
        raise FormatError("expected certificates in PEM, or one in DER") from exc
    return tuple(one.public_bytes(Encoding.DER) for one in certificates)


def _load(certificate: bytes) -> x509.Certificate:
    if len(certificate) > MAX_CERTIFICATE_SIZE:
        raise FormatError(
            f"time stamp: expected certificates of at most {MAX_CERTIFICATE_SIZE} bytes, "
            f"found {len(certificate)}"
        )
    try:
        return x509.load_der_x509_certificate(certificate)
    except ValueError as exc:
        raise FormatError("time stamp: a certificate is damaged") from exc


def _has_issued(upper: x509.Certificate, lower: x509.Certificate) -> bool:
    try:
        constraints = upper.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca:
            return False
        lower.verify_directly_issued_by(upper)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, InvalidSignature):
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _shown(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string())
