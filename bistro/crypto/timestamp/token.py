"""Time-stamp responses, put together from DER that is ready but for what differs.

```
SEQ { SEQ { INT 0 }                                          granted
  SEQ { signedData, [0] SEQ { INT 3, SET { sha256 },
    SEQ { tSTInfo, [0] { OCTET STRING { TSTInfo } } },
    [0] { certificates }                                     only where they were asked for
    SET { SEQ { INT 1, issuerAndSerialNumber, sha256,
      [0] { contentType, messageDigest, signingCertificateV2 },
      ecdsa-with-SHA256, OCTET STRING } } } } }
TSTInfo ::= SEQ { INT 1, policy, messageImprint, serial, genTime, accuracy, nonce }
```

The three attributes have 28, 49 and 57 bytes: in this order they are sorted as a SET demands.
What is signed are the attributes under the tag SET. Ordering (false) and tsa are left out.

The lengths of all elements follow from those of the content, of the signature and from whether
there are certificates: responses that agree in those have the same bytes around what differs.

Source: docs/spec/timestamps.md; RFC 3161, section 2.4.2; RFC 5652, section 5; RFC 5816.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from bistro.crypto.digest import HASH_SIZE, sha256
from bistro.crypto.timestamp import der
from bistro.crypto.timestamp.request import Failure, Query, Rejection
from bistro.instant import UnixMillis

SERIAL_SIZE: Final = 20
"""Bytes of a serial number: 160 bits, the most that everybody must accept."""
PREFIX_SIZE: Final = 12

_MS_PER_S = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ECDSA = ec.ECDSA(Prehashed(SHA256()))

_SHA256 = der.encode(der.SEQUENCE, der.encode_object("2.16.840.1.101.3.4.2.1"))
_ECDSA_WITH_SHA256 = der.encode(der.SEQUENCE, der.encode_object("1.2.840.10045.4.3.2"))
SIGNED_DATA = der.encode_object("1.2.840.113549.1.7.2")
TST_INFO = der.encode_object("1.2.840.113549.1.9.16.1.4")
CONTENT_TYPE = der.encode_object("1.2.840.113549.1.9.3")
MESSAGE_DIGEST = der.encode_object("1.2.840.113549.1.9.4")
SIGNING_CERTIFICATE_V2 = der.encode_object("1.2.840.113549.1.9.16.2.47")

_CONTEXT_0 = 0xA0
_MILLIS = 0x80
_VERSION_1 = der.encode_integer(1)
_GRANTED = der.encode(der.SEQUENCE, der.encode_integer(0))
_HEAD = der.encode_integer(3) + der.encode(der.SET, _SHA256)
_ATTRIBUTE_SIZES = (28, 49, 57)
_ATTRIBUTES_SIZE = sum(_ATTRIBUTE_SIZES)
_MAX_FRAMES = 256
"""Usual requests need less than 40; a nonce may have any size."""


class _Frame(NamedTuple):
    """What stands in a response before its content, its digest and its signature."""

    first: bytes
    second: bytes
    third: bytes


class Serials:
    """Serial numbers that no other process gives: a random prefix, then a counter.

    Args:
        randomness: ``PREFIX_SIZE`` random bytes, new in every process.
    """

    def __init__(self, randomness: bytes) -> None:
        if len(randomness) != PREFIX_SIZE:
            raise ValueError(f"expected {PREFIX_SIZE} random bytes, found {len(randomness)}")
        # Neither negative nor with a leading zero, so always SERIAL_SIZE bytes: 01… to 7f….
        first = (randomness[0] & 0x3F) | 0x40
        self._prefix = bytes((der.INTEGER, SERIAL_SIZE, first)) + randomness[1:]
        self._count = 0

    def next(self) -> bytes:
        """The DER of the next number."""
        self._count += 1
        return self._prefix + self._count.to_bytes(SERIAL_SIZE - PREFIX_SIZE)


class TokenSigner:
    """Makes responses under one certificate.

    Args:
        key: P-256, fits the first certificate.
        chain: The authority's own certificate, then those above it.
        policy: Object identifier of the one policy, as text with dots.

    Raises:
        FormatError: ``policy`` is no object identifier.
    """

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        chain: Sequence[x509.Certificate],
        *,
        policy: str,
    ) -> None:
        own = chain[0].public_bytes(Encoding.DER)
        self._key = key
        self._policy_object = der.encode_object(policy)
        self._policy = _VERSION_1 + self._policy_object
        # A SET is sorted by its elements' bytes.
        certificates = sorted({one.public_bytes(Encoding.DER) for one in chain})
        self._certificates = der.encode(_CONTEXT_0, *certificates)
        before, self._after_digest = _attributes_around_digest(sha256(own))
        self._to_sign = der.header(der.SET, _ATTRIBUTES_SIZE) + before
        self._signer = _VERSION_1 + issuer_and_serial(own) + _SHA256
        self._moment_of = (UnixMillis(0), 0)
        self._moment = b""
        self._frames: dict[tuple[int, int, bool], _Frame] = {}

    def judge(self, query: Query) -> Rejection | None:
        """Why this authority does not grant ``query``, or ``None`` if it does."""
        if query.policy is not None and query.policy != self._policy_object:
            return Rejection(Failure.UNACCEPTED_POLICY, "there is one policy here, and not this")
        if query.has_extensions:
            return Rejection(Failure.UNACCEPTED_EXTENSION, "no extension is understood")
        return None

    def grant(self, query: Query, *, serial: bytes, time: UnixMillis, accuracy_ms: int) -> bytes:
        """The response with a token.

        Args:
            query: Judged and not rejected.
            serial: From ``Serials``.
            time: When the request was there.
            accuracy_ms: By how much ``time`` may be wrong, at least 1.
        """
        if self._moment_of != (time, accuracy_ms):
            self._moment_of = (time, accuracy_ms)
            self._moment = encode_time(time) + encode_accuracy(accuracy_ms)
        fields = b"".join((self._policy, query.imprint, serial, self._moment, query.nonce))
        content = der.header(der.SEQUENCE, len(fields)) + fields
        digest = sha256(content)
        signed = b"".join((self._to_sign, digest, self._after_digest))
        signature = self._key.sign(sha256(signed), _ECDSA)
        shape = (len(content), len(signature), query.wants_certificate)
        frame = self._frames.get(shape)
        if frame is None:
            if len(self._frames) >= _MAX_FRAMES:
                self._frames.clear()
            frame = self._frames[shape] = self._frame(*shape)
        return b"".join((frame.first, content, frame.second, digest, frame.third, signature))

    def _frame(self, content_size: int, signature_size: int, wants_certificate: bool) -> _Frame:  # noqa: FBT001
        """The pieces of a response, from the innermost element outwards."""
        third = (
            self._after_digest + _ECDSA_WITH_SHA256 + der.header(der.OCTET_STRING, signature_size)
        )
        attributes = self._to_sign[len(der.header(der.SET, _ATTRIBUTES_SIZE)) :]
        second = der.header(_CONTEXT_0, _ATTRIBUTES_SIZE) + attributes
        behind = HASH_SIZE + len(third) + signature_size
        second = _enclose(der.SEQUENCE, self._signer + second, behind)
        second = _enclose(der.SET, second, behind)
        if wants_certificate:
            second = self._certificates + second
        first = _enclose(der.OCTET_STRING, b"", content_size)
        first = _enclose(_CONTEXT_0, first, content_size)
        first = _HEAD + _enclose(der.SEQUENCE, TST_INFO + first, content_size)
        behind += content_size + len(second)
        first = _enclose(der.SEQUENCE, first, behind)
        first = SIGNED_DATA + _enclose(_CONTEXT_0, first, behind)
        first = _GRANTED + _enclose(der.SEQUENCE, first, behind)
        return _Frame(_enclose(der.SEQUENCE, first, behind), second, third)


def _enclose(tag: int, begin: bytes, rest_size: int) -> bytes:
    """An element that begins with ``begin`` and goes on for ``rest_size`` bytes, cut there."""
    return der.header(tag, len(begin) + rest_size) + begin


def reject(rejection: Rejection) -> bytes:
    """The response without a token: status 2, the failure's bit, and a text."""
    bit = int(rejection.failure)
    unused = 7 - bit % 8
    # A list of named bits has no zeros after its last bit.
    failure = bytes((unused, *bytes(bit // 8), 1 << unused))
    return der.encode(
        der.SEQUENCE,
        der.encode(
            der.SEQUENCE,
            der.encode_integer(2),
            der.encode(der.SEQUENCE, der.encode(der.UTF8_STRING, rejection.text.encode())),
            der.encode(der.BIT_STRING, failure),
        ),
    )


def encode_time(time: UnixMillis) -> bytes:
    """A GeneralizedTime: UTC, without zeros at the end of its fraction."""
    seconds, millis = divmod(time, _MS_PER_S)
    fraction = f".{millis:03d}".rstrip("0") if millis else ""
    return der.encode(der.GENERALIZED_TIME, f"{_to_the_second(seconds)}{fraction}Z".encode())


@lru_cache(maxsize=4)
def _to_the_second(seconds: int) -> str:
    """Kept because a busy second has thousands of tokens."""
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y%m%d%H%M%S")


@lru_cache(maxsize=256)
def encode_accuracy(accuracy_ms: int) -> bytes:
    """An Accuracy: seconds, and milliseconds from 1 to 999, each left out where it is 0."""
    seconds, millis = divmod(accuracy_ms, _MS_PER_S)
    pieces = der.encode_integer(seconds) if seconds else b""
    if millis:
        pieces += bytes((_MILLIS,)) + der.encode_integer(millis)[1:]
    return der.encode(der.SEQUENCE, pieces)


def issuer_and_serial(certificate: bytes) -> bytes:
    """The DER by which a certificate is named: issuer and serial number as they stand in it.

    Raises:
        FormatError: Not a certificate.
    """
    body = der.Reader("certificate", certificate).nested().nested()
    if body.is_next(_CONTEXT_0):
        body.whole()  # the version
    serial = body.integer()
    body.whole(der.SEQUENCE)  # the algorithm of its signature
    return der.encode(der.SEQUENCE, body.whole(der.SEQUENCE), serial)


def _attributes_around_digest(certificate_digest: bytes) -> tuple[bytes, bytes]:
    """The three signed attributes, cut where the digest of the content goes."""
    blank = bytes(HASH_SIZE)
    attributes = (
        _attribute(CONTENT_TYPE, TST_INFO),
        _attribute(MESSAGE_DIGEST, der.encode(der.OCTET_STRING, blank)),
        _attribute(SIGNING_CERTIFICATE_V2, _signing_certificate(certificate_digest)),
    )
    if tuple(map(len, attributes)) != _ATTRIBUTE_SIZES or sorted(attributes) != [*attributes]:
        raise AssertionError("the signed attributes are not what RFC 3161 makes them")
    first, second, third = attributes
    return first + second[:-HASH_SIZE], third


def _attribute(kind: bytes, value: bytes) -> bytes:
    return der.encode(der.SEQUENCE, kind, der.encode(der.SET, value))


def _signing_certificate(digest: bytes) -> bytes:
    """SigningCertificateV2 of one certificate; SHA-256 is its default and left out."""
    identifier = der.encode(der.SEQUENCE, der.encode(der.OCTET_STRING, digest))
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, identifier))
