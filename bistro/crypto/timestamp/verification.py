"""Checks tokens of other authorities against a certificate that one has already.

What is checked: the imprint and the nonce are those of the request, the content has the digest
that was signed, the signature holds under that certificate, the token names it, and it is a
certificate for time stamps that was valid at the time. Who vouches for the certificate is not
looked at: whoever configured it, or signed its hash, did.

Understood are DER, one signer named by issuer and serial number, SHA-256 to SHA-512 and, as the
signature, ECDSA or RSA (PKCS #1, version 1.5).

Source: docs/spec/timestamps.md; RFC 3161, section 2.4.2; RFC 5652, section 5; RFC 5816.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from bistro.crypto.timestamp import der
from bistro.crypto.timestamp.certificate import require_for_time_stamps, validity
from bistro.crypto.timestamp.token import (
    CONTENT_TYPE,
    MESSAGE_DIGEST,
    SIGNED_DATA,
    SIGNING_CERTIFICATE_V2,
    TST_INFO,
    issuer_and_serial,
)
from bistro.errors import FormatError, VerificationError
from bistro.instant import UnixMillis

MAX_TOKEN_SIZE: Final = 65_536
"""Bytes of a token: what evidence has room for."""

_WHAT = "time stamp"
_CONTEXT_0, _CONTEXT_1 = 0xA0, 0xA1
_MILLIS, _MICROS = 0x80, 0x81
_VERSION_1 = der.encode_integer(1)
_STATUSES = {der.encode_integer(0), der.encode_integer(1)}
_GENERALIZED = re.compile(rb"(\d{14})(?:\.(\d{0,8}[1-9]))?Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_DIGESTS: Final[dict[bytes, Callable[[], hashes.HashAlgorithm]]] = {
    der.encode_object("2.16.840.1.101.3.4.2.1"): hashes.SHA256,
    der.encode_object("2.16.840.1.101.3.4.2.2"): hashes.SHA384,
    der.encode_object("2.16.840.1.101.3.4.2.3"): hashes.SHA512,
}
_SHA256_OBJECT = next(iter(_DIGESTS))
_RSA = der.encode_object("1.2.840.113549.1.1.1")
_RSA_WITH: Final[dict[bytes, Callable[[], hashes.HashAlgorithm]]] = {
    der.encode_object("1.2.840.113549.1.1.11"): hashes.SHA256,
    der.encode_object("1.2.840.113549.1.1.12"): hashes.SHA384,
    der.encode_object("1.2.840.113549.1.1.13"): hashes.SHA512,
}
_ECDSA_WITH: Final[dict[bytes, Callable[[], hashes.HashAlgorithm]]] = {
    der.encode_object("1.2.840.10045.4.3.2"): hashes.SHA256,
    der.encode_object("1.2.840.10045.4.3.3"): hashes.SHA384,
    der.encode_object("1.2.840.10045.4.3.4"): hashes.SHA512,
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a token says, and everything it needs to be checked.

    Attributes:
        time: Of the authority's clock, cut to milliseconds.
        accuracy_ms: By how much that may be wrong, rounded up; ``None`` where it is not said.
        digest: SHA-256 of what was stamped.
        nonce: DER of the nonce; empty where there is none.
        policy: DER of the policy under which it was given.
    """

    time: UnixMillis
    accuracy_ms: int | None
    digest: bytes
    nonce: bytes
    policy: bytes


def token_of(response: bytes) -> bytes:
    """The token in an authority's response.

    Raises:
        FormatError: The response is not DER, or has no token because the request was refused.
    """
    outer = der.Reader(_WHAT, response)
    parts = outer.nested()
    outer.end()
    status = parts.nested().integer()
    if status not in _STATUSES:
        raise FormatError(f"{_WHAT}: it was refused with status {int.from_bytes(status[2:])}")
    token = parts.whole(der.SEQUENCE)
    parts.end()
    return token


def verify_token(token: bytes, certificate: x509.Certificate) -> Stamp:
    """What a token says, once everything about it has been found to hold.

    Args:
        token: CMS, DER, without the response around it.
        certificate: The authority's.

    Raises:
        FormatError: Not a token, or one of a form that is not understood.
        VerificationError: It does not hold.
    """
    require_for_time_stamps(certificate)
    content, _, signer = _open(token)
    own = certificate.public_bytes(Encoding.DER)
    if _named(signer) != issuer_and_serial(own):
        raise VerificationError(f"{_WHAT}: it was signed under another certificate")
    digest = _algorithm(signer, _DIGESTS)
    attributes = der.encode(der.SET, signer.content(_CONTEXT_0))
    _verify_attributes(attributes, content, digest, own)
    kind = signer.nested()
    signature = signer.content(der.OCTET_STRING)
    _verify_signature(certificate, kind.object(), digest, signature, attributes)
    stamp = _read_info(content)
    begins, ends = validity(certificate)
    if not begins <= stamp.time <= ends:
        raise VerificationError(f"{_WHAT}: its certificate was not valid at that time")
    return stamp


def certificates_of(token: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """The certificates that a token brings along, and the name of its signer's; both DER.

    Nothing is verified; the name is as ``issuer_and_serial`` makes it.

    Raises:
        FormatError: Not a token, or one of a form that is not understood.
    """
    _, certificates, signer = _open(token)
    reader = der.Reader(_WHAT, certificates)
    found = []
    while not reader.is_done():
        found.append(reader.whole())
    return tuple(found), _named(signer)


def _named(signer: der.Reader) -> bytes:
    if signer.integer() != _VERSION_1:
        raise FormatError(f"{_WHAT}: its signer is not named by issuer and serial number")
    return signer.whole(der.SEQUENCE)


def _open(token: bytes) -> tuple[bytes, bytes, der.Reader]:
    """The content that was signed, the certificates, and the one signer."""
    if len(token) > MAX_TOKEN_SIZE:
        raise FormatError(f"{_WHAT}: expected at most {MAX_TOKEN_SIZE} bytes, found {len(token)}")
    outer = der.Reader(_WHAT, token)
    content_info = outer.nested()
    outer.end()
    if content_info.object() != SIGNED_DATA:
        raise FormatError(f"{_WHAT}: not signed data")
    signed = content_info.nested(_CONTEXT_0).nested()
    signed.integer()
    signed.whole(der.SET)
    encapsulated = signed.nested()
    if encapsulated.object() != TST_INFO:
        raise FormatError(f"{_WHAT}: something else was signed")
    content = encapsulated.nested(_CONTEXT_0).content(der.OCTET_STRING)
    certificates = signed.content(_CONTEXT_0) if signed.is_next(_CONTEXT_0) else b""
    if signed.is_next(_CONTEXT_1):
        signed.whole()
    signers = signed.nested(der.SET)
    signer = signers.nested()
    signers.end()
    return content, certificates, signer


def _algorithm(
    reader: der.Reader, known: dict[bytes, Callable[[], hashes.HashAlgorithm]]
) -> hashes.HashAlgorithm:
    kind = reader.nested()
    found = kind.object()
    if found not in known or not (kind.is_done() or kind.whole() == der.NULL):
        raise FormatError(f"{_WHAT}: a hash algorithm that is not understood")
    return known[found]()


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()


def _verify_attributes(
    attributes: bytes, content: bytes, digest: hashes.HashAlgorithm, certificate: bytes
) -> None:
    reader = der.Reader(_WHAT, attributes).nested(der.SET)
    found: dict[bytes, bytes] = {}
    while not reader.is_done():
        attribute = reader.nested()
        name, values = attribute.object(), attribute.nested(der.SET)
        if name in found:
            raise FormatError(f"{_WHAT}: an attribute stands twice")
        found[name] = values.whole()
        values.end()
        attribute.end()
    if found.get(CONTENT_TYPE) != TST_INFO:
        raise VerificationError(f"{_WHAT}: what was signed is no time stamp")
    if found.get(MESSAGE_DIGEST) != der.encode(der.OCTET_STRING, _digest(digest, content)):
        raise VerificationError(f"{_WHAT}: its content was changed")
    if SIGNING_CERTIFICATE_V2 not in found:
        raise VerificationError(f"{_WHAT}: it does not name its certificate")
    first = der.Reader(_WHAT, found[SIGNING_CERTIFICATE_V2]).nested().nested().nested()
    named_by: hashes.HashAlgorithm = hashes.SHA256()
    if first.is_next(der.SEQUENCE):
        named_by = _algorithm(first, _DIGESTS)
    if first.content(der.OCTET_STRING) != _digest(named_by, certificate):
        raise VerificationError(f"{_WHAT}: it names another certificate")


def _verify_signature(
    certificate: x509.Certificate,
    kind: bytes,
    digest: hashes.HashAlgorithm,
    signature: bytes,
    signed: bytes,
) -> None:
    try:
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey) and (kind in _RSA_WITH or kind == _RSA):
            algorithm = digest if kind == _RSA else _RSA_WITH[kind]()
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and kind in _ECDSA_WITH:
            key.verify(signature, signed, ec.ECDSA(_ECDSA_WITH[kind]()))
        else:
            raise FormatError(f"{_WHAT}: a kind of signature that is not understood")
    except InvalidSignature as exc:
        raise VerificationError(f"{_WHAT}: its signature does not hold") from exc
    except (UnsupportedAlgorithm, ValueError) as exc:
        raise FormatError(f"{_WHAT}: a key that is not understood") from exc


def _read_info(content: bytes) -> Stamp:
    outer = der.Reader(_WHAT, content)
    info = outer.nested()
    outer.end()
    if info.integer() != _VERSION_1:
        raise FormatError(f"{_WHAT}: its version is not 1")
    policy = info.object()
    imprint = info.nested()
    algorithm = imprint.nested()
    if algorithm.object() != _SHA256_OBJECT:
        raise FormatError(f"{_WHAT}: expected the SHA-256 of something")
    digest = imprint.content(der.OCTET_STRING)
    info.integer()
    time = _read_time(info.content(der.GENERALIZED_TIME))
    accuracy_ms = _read_accuracy(info.nested()) if info.is_next(der.SEQUENCE) else None
    if info.is_next(der.BOOLEAN):
        info.whole()
    nonce = info.integer() if info.is_next(der.INTEGER) else b""
    for optional in (_CONTEXT_0, _CONTEXT_1):
        if info.is_next(optional):
            info.whole()
    info.end()
    return Stamp(time=time, accuracy_ms=accuracy_ms, digest=digest, nonce=nonce, policy=policy)


def _read_time(text: bytes) -> UnixMillis:
    match = _GENERALIZED.fullmatch(text)
    if match is None:
        raise FormatError(f"{_WHAT}: its time is not in UTC and seconds")
    try:
        moment = datetime.strptime(match[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as exc:
        raise FormatError(f"{_WHAT}: there is no such time") from exc
    millis = int((match[2] or b"").ljust(3, b"0")[:3])
    return UnixMillis((moment - _EPOCH) // timedelta(milliseconds=1) + millis)


def _read_accuracy(reader: der.Reader) -> int:
    """In milliseconds, rounded up."""
    micros = 0
    for tag, unit in ((der.INTEGER, 1_000_000), (_MILLIS, 1_000), (_MICROS, 1)):
        if reader.is_next(tag):
            micros += int.from_bytes(reader.content(tag)) * unit
    reader.end()
    return -(-micros // 1_000)
