"""Media types of requests and answers, and the strict reading of ``Content-Type``.

Source: docs/spec/api.md; RFC 9110, section 8.3; RFC 9457.
"""

from __future__ import annotations

from typing import Final

from bistro.errors import FormatError

MSGPACK: Final = "application/msgpack"
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
TEXT: Final = "text/plain; charset=utf-8"
"""Signed notes and tlog-proofs."""
TILE: Final = "application/octet-stream"
BATCH: Final = "application/vnd.bistro.batch"
"""The frames of a batch response."""
TUS_BYTES: Final = "application/offset+octet-stream"
DRAFT_BYTES: Final = "application/partial-upload"
"""Appended bytes in the IETF draft of resumable uploads, from its version 05 on."""
TIMESTAMP_QUERY: Final = "application/timestamp-query"
TIMESTAMP_REPLY: Final = "application/timestamp-reply"
METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


def essence(content_type: str | None) -> str:
    """The media type without parameters, in lower case; empty where there is none."""
    return (content_type or "").partition(";")[0].strip().lower()


def require_media_type(content_type: str | None, expected: str) -> None:
    """Check a ``Content-Type`` header field; its parameters do not matter.

    Raises:
        FormatError: The body is of another type.
    """
    found = essence(content_type)
    if found != essence(expected):
        raise FormatError(
            f"content type: expected {essence(expected)}, found {found[:64] or 'none'}"
        )
