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

Almost every request is one of a few shapes with other bytes in fixed places. Those are known by
their bytes; whatever is not exactly one of them, by a single byte, is read as DER.

Source: docs/spec/timestamps.md; RFC 3161, sections 2.4.1 and 2.4.2; RFC 5754, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from bistro.crypto.timestamp import der
from bistro.errors import FormatError

MAX_REQUEST_SIZE: Final = 4_096
"""Bytes of a request; usual ones have less than 100."""

_WHAT = "time-stamp request"
_VERSION_1 = b"\x02\x01\x01"
_EXTENSIONS = 0xA0
_SHA256 = der.encode_object("2.16.840.1.101.3.4.2.1")
_ALGORITHMS: Final = {
    _SHA256: ("sha256", 32),
    der.encode_object("2.16.840.1.101.3.4.2.2"): ("sha384", 48),
    der.encode_object("2.16.840.1.101.3.4.2.3"): ("sha512", 64),
}

_BEGIN: Final = 2
"""Where a short request's content begins: behind tag and length."""
_SHORT_LIMIT: Final = 0x80
_SIGN: Final = 0x80
_MINUS: Final = 0xFF


def _imprint_head(algorithm: bytes, size: int, parameters: bytes) -> bytes:
    """What stands before the ``size`` bytes of a digest in a short request's content."""
    kind = der.encode(der.SEQUENCE, algorithm, parameters)
    digest = der.header(der.OCTET_STRING, size)
    inner = len(kind) + len(digest) + size
    return _VERSION_1 + der.header(der.SEQUENCE, inner) + kind + digest


_HEADS: Final = tuple(
    {
        head: _BEGIN + len(head) + size
        for algorithm, (_, size) in _ALGORITHMS.items()
        for head in [_imprint_head(algorithm, size, parameters)]
    }
    for parameters in (der.NULL, b"")
)
"""Where the imprint ends, by what stands before its digest: with parameters, and without."""
_WITH_NULL, _BARE = _HEADS
_WITH_NULL_STOP, _BARE_STOP = (_BEGIN + len(next(iter(heads))) for heads in _HEADS)


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


class Query(NamedTuple):
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
    return recognise(data) or read_query(data)


def recognise(data: bytes) -> Query | None:
    """What a request of a usual shape asks for; ``None`` for all others, right or wrong.

    Usual: less than 128 bytes of content, no policy, no extension.
    """
    size = len(data) - _BEGIN
    if not 0 < size < _SHORT_LIMIT or data[0] != der.SEQUENCE or data[1] != size:
        return None
    end = _WITH_NULL.get(data[_BEGIN:_WITH_NULL_STOP]) or _BARE.get(data[_BEGIN:_BARE_STOP])
    if end is None or end > len(data):
        return None
    imprint, rest = data[_BEGIN + len(_VERSION_1) : end], data[end:]
    nonce = b""
    if rest and rest[0] == der.INTEGER:
        # A length above the limit leads beyond the end of the request, as any that is too long.
        stop = _BEGIN + rest[1] if len(rest) > _BEGIN else 0
        nonce, rest = rest[:stop], rest[stop:]
        if not _BEGIN < stop == len(nonce) or _is_padded(nonce):
            return None
    if rest and rest != der.TRUE:
        return None
    return Query(imprint, None, nonce, rest != b"", False)


def _is_padded(nonce: bytes) -> bool:
    """Whether a short INTEGER of at least one byte is not the shortest."""
    first = nonce[_BEGIN]
    if len(nonce) == _BEGIN + 1 or first not in {0, _MINUS}:
        return False
    return (first == 0) == (nonce[_BEGIN + 1] < _SIGN)


def read_query(data: bytes) -> Query | Rejection:
    """As ``parse_query``, for requests of any shape."""
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
    if parameters not in {b"", der.NULL}:
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
