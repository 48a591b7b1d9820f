"""RFC 9457 problem documents: deliberate errors on their way through HTTP, both ways.

``{"code", "detail", "hint", "retry_after_ms"?, "status", "title", "type"}``, canonical JSON. The
``code`` is protocol; the title is derived from it. Whoever reads one ignores unknown members, as
RFC 9457 demands, and takes anything that is no problem document for a peer that cannot be used
now: a proxy in between answers for itself.

Source: docs/spec/errors.md, api.md; RFC 9457; RFC 9110, section 10.2.3 (Retry-After).
"""

from __future__ import annotations

import json
import math
from typing import Final, cast

from bistro.api import media, routes
from bistro.errors import BistroError, UnavailableError, catalogue, error_for_code
from bistro.wire.document import Json, encode_json

MAX_PROBLEM_SIZE: Final = 16_384
CODES: Final = frozenset({BistroError.code, *catalogue()})
"""Every code that may cross the wire."""

_MAX_TEXT_LENGTH: Final = 2_000
_MAX_RETRY_AFTER_MS: Final = 86_400_000
_MS_PER_S: Final = 1_000


def encode_problem(error: BistroError) -> bytes:
    """The body of the response that reports ``error``."""
    problem: dict[str, Json] = {
        "code": error.code,
        "detail": _printable(error.message),
        "hint": _printable(error.hint),
        "status": error.http_status,
        "title": error.code.replace("-", " "),
        "type": "about:blank",
    }
    retry_after_ms = _retry_after_ms(error)
    if retry_after_ms is not None:
        problem["retry_after_ms"] = retry_after_ms
    return encode_json(problem)


def problem_headers(error: BistroError) -> dict[str, str]:
    """Header fields of that response; ``Retry-After`` is in whole seconds, rounded up."""
    headers = {"Content-Type": media.PROBLEM}
    retry_after_ms = _retry_after_ms(error)
    if retry_after_ms is not None:
        headers[routes.RETRY_AFTER] = str(-(-retry_after_ms // _MS_PER_S))
    return headers


def decode_problem(
    body: bytes, *, status: int, content_type: str | None = media.PROBLEM, peer: str = "the peer"
) -> BistroError:
    """The error that a response with an error status stands for; never raises.

    Args:
        body: What arrived, at most ``MAX_PROBLEM_SIZE`` bytes of it.
        status: The response's status.
        content_type: Its ``Content-Type``.
        peer: Who answered, for the message.
    """
    members = _members(body) if media.essence(content_type) == media.PROBLEM else {}
    code = members.get("code")
    if not isinstance(code, str) or code not in CODES:
        return UnavailableError(
            f"{peer}: answered HTTP {status} without a problem document",
            hint="check the URL; if it is right, try again later",
        )
    if code == BistroError.code:
        return UnavailableError(f"{peer}: {_text(members, 'detail')}", hint="try again later")
    return error_for_code(
        code,
        _text(members, "detail"),
        hint=_text(members, "hint"),
        retry_after_s=_retry_after_s(members),
    )


def _retry_after_ms(error: BistroError) -> int | None:
    if not isinstance(error, UnavailableError) or error.retry_after_s is None:
        return None
    return max(0, min(_MAX_RETRY_AFTER_MS, math.ceil(error.retry_after_s * _MS_PER_S)))


def _retry_after_s(members: dict[str, object]) -> float | None:
    found = members.get("retry_after_ms")
    if type(found) is not int or not 0 <= found <= _MAX_RETRY_AFTER_MS:
        return None
    return found / _MS_PER_S


def _members(body: bytes) -> dict[str, object]:
    if len(body) > MAX_PROBLEM_SIZE:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def _text(members: dict[str, object], name: str) -> str:
    found = members.get(name)
    return _printable(found) if isinstance(found, str) else ""


def _printable(text: str) -> str:
    """What a peer says, made safe for a terminal and an encoder, and cut to a bearable length."""
    kept = (char if char.isprintable() else "\ufffd" for char in text[:_MAX_TEXT_LENGTH])
    return "".join(kept)
