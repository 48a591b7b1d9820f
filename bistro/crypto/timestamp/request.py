"""Time-stamp requests: strict DER in, a query or the reason to refuse it out.

```
TimeStampReq ::= SEQUENCE { version INTEGER { v1(1) }, messageImprint, reqPolicy OID OPTIONAL,
                            nonce INTEGER OPTIONAL, certReq BOOLEAN DEFAULT FALSE,
                            extensions [0] OPTIONAL }
```

| what is found | failure |
|---|---|
| not DER, not that structure, an imprint of another length than its algorithm's | badDataFormat |
| another version | badRequest |
| another algorithm than SHA-256, SHA-384, SHA-512, or one with parameters | badAlg |
| another policy than the authority's | unacceptedPolicy (by the token's maker) |
| any extension | unacceptedExtension |

The first that applies is told, in the order version, algorithm, imprint, policy, extension; the
whole request is well-formed before any but badDataFormat is.

Source: docs/spec/timestamps.md; RFC 3161, sections 2.4.1 and 2.4.2; RFC 5754, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from bistro.crypto.timestamp import der
from bistro.errors import FormatError

MAX_REQUEST_SIZE: Final = 4_096
"""Bytes of a request; usual ones have less than 100."""

_WHAT = "time-stamp request"
_VERSION_1 = b"\x02\x01\x01"
_NULL = b"\x05\x00"
_EXTENSIONS = 0xA0
_SHA256 = der.encode_object("2.16.840.1.101.3.4.2.1")
_ALGORITHMS: Final = {
    _SHA256: ("sha256", 32),
    der.encode_object("2.16.840.1.101.3.4.2.2"): ("sha384", 48),
    der.encode_object("2.16.840.1.101.3.4.2.3"): ("sha512", 64),
}


class Failure(IntEnum):
    """PKIFailureInfo: why there is no token; the value is the bit's number."""

    BAD_ALG = 0
    BAD_REQUEST = 2
    BAD_DATA_FORMAT = 5
    TIME_NOT_AVAILABLE = 14
    UNACCEPTED_POLICY = 15
    UNACCEPTED_EXTENSION = 16
    SYSTEM_FAILURE = 25


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason for which there is no token.

    Attributes:
        failure: For programs.
        text: For people.
    """

    failure: Failure
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """A request that can be granted, but for its policy and extensions.

    Attributes:
        imprint: The DER of the message imprint, copied into the token as it is.
        policy: The DER of the policy asked for, or ``None``.
        nonce: The DER of the nonce, echoed byte for byte; empty where there is none.
        wants_certificate: Whether the certificates go into the token.
        has_extensions: Whether there are any; none is understood.
    """

    imprint: bytes
    policy: bytes | None = None
    nonce: bytes = b""
    wants_certificate: bool = False
    has_extensions: bool = False


def encode_query(digest: bytes, *, nonce: bytes) -> bytes:
    """The request for a token over a SHA-256, with the authority's certificates in it.

    Args:
        digest: 32 bytes.
        nonce: DER of an INTEGER.
    """
    algorithm = der.encode(der.SEQUENCE, _SHA256)
    imprint = der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, digest))
    return der.encode(der.SEQUENCE, _VERSION_1, imprint, nonce, der.TRUE)


def parse_query(data: bytes) -> Query | Rejection:
    """What a request asks for, or why it cannot be granted; never raises, whatever the bytes."""
    try:
        return _parse(data)
    except FormatError as exc:
        return Rejection(Failure.BAD_DATA_FORMAT, exc.message)


def _parse(data: bytes) -> Query | Rejection:
    if len(data) > MAX_REQUEST_SIZE:
        raise FormatError(f"{_WHAT}: expected at most {MAX_REQUEST_SIZE} bytes, found {len(data)}")
    outer = der.Reader(_WHAT, data)
    request = outer.nested()
    outer.end()
    version = request.integer()
    imprint = request.whole(der.SEQUENCE)
    rejection = _judge_imprint(imprint)
    query = Query(
        imprint=imprint,
        policy=request.object() if request.is_next(der.OBJECT) else None,
        nonce=request.integer() if request.is_next(der.INTEGER) else b"",
        wants_certificate=_read_flag(request),
        has_extensions=_read_extensions(request),
    )
    request.end()
    if version != _VERSION_1:
        return Rejection(Failure.BAD_REQUEST, "the version is not 1")
    return rejection or query


def _judge_imprint(imprint: bytes) -> Rejection | None:
    """Why this imprint is not stamped, or ``None``."""
    reader = der.Reader(_WHAT, imprint).nested()
    algorithm = reader.nested()
    digest = reader.content(der.OCTET_STRING)
    reader.end()
    found = algorithm.object()
    parameters = b"" if algorithm.is_done() else algorithm.whole()
    algorithm.end()
    if found not in _ALGORITHMS:
        return Rejection(Failure.BAD_ALG, "expected SHA-256, SHA-384 or SHA-512")
    if parameters not in {b"", _NULL}:
        return Rejection(Failure.BAD_ALG, "the algorithm has parameters")
    name, size = _ALGORITHMS[found]
    if len(digest) != size:
        text = f"{name}: expected {size} bytes, found {len(digest)}"
        return Rejection(Failure.BAD_DATA_FORMAT, text)
    return None


def _read_flag(request: der.Reader) -> bool:
    """``certReq``: DER leaves a default out, so it is either absent or true."""
    if not request.is_next(der.BOOLEAN):
        return False
    if request.whole(der.BOOLEAN) != der.TRUE:
        raise FormatError(f"{_WHAT}: certReq is neither absent nor true")
    return True


def _read_extensions(request: der.Reader) -> bool:
    if not request.is_next(_EXTENSIONS):
        return False
    extensions = request.nested(_EXTENSIONS)
    while True:  # at least one
        extensions.whole(der.SEQUENCE)
        if extensions.is_done():
            return True
