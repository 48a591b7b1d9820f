"""Every deliberate error of Bistro, each with its code, HTTP status and exit code.

The ``code`` is protocol: it crosses the wire and never changes. The class says who must
act; the ``hint`` tells that person what to do next. A message names the expected and the
found value, and no secret.

| class | code | HTTP | exit | who acts |
|---|---|---|---|---|
| ``FormatError`` | malformed | 400 | 3 | sender: fix the bytes |
| ``VerificationError`` | not-verified | 422 | 4 | nobody may trust this object |
| ``ChecksumMismatchError`` | checksum-mismatch | 460 | 4 | sender: send the same bytes again |
| ``RefusedError`` and below | see each | 403-413 | 3 | caller: change the request |
| ``UnavailableError`` and below | see each | 503, 507 | 5 | caller: same request, later |
| ``StorageError`` | storage | 500 | 1 | operator; a daemon stops |
| ``SettingsError`` | settings | - | 2 | operator, or the person at the keyboard |

Source: docs/spec/errors.md; RFC 9457.
"""

from __future__ import annotations

from typing import ClassVar


class BistroError(Exception):
    """The base of every deliberate error.

    Args:
        message: What was expected and what was found; lower case, no full stop.
        hint: What the reader can do next; may be empty.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class FormatError(BistroError):
    """Bytes that are not the one encoding of a value."""

    code = "malformed"
    http_status = 400
    exit_code = 3


class VerificationError(BistroError):
    """A signature, proof or hash does not hold: nobody may trust this object."""

    code = "not-verified"
    http_status = 422
    exit_code = 4


class ChecksumMismatchError(VerificationError):
    """Bytes that arrived are not the ones that were announced; they were dropped.

    Source: tus 1.0, checksum extension (status 460).
    """

    code = "checksum-mismatch"
    http_status = 460


class RefusedError(BistroError):
    """The request was understood and will not be granted as it stands."""

    code = "refused"
    http_status = 403
    exit_code = 3


class DeadlinePassedError(RefusedError):
    """It is too late; a retry cannot help."""

    code = "deadline-passed"


class NotOpenError(RefusedError):
    """The call does not take this now: not yet, or no more."""

    code = "not-open"


class NotRegisteredError(RefusedError):
    """The filer, destination or collector is not on the list that it must be on."""

    code = "not-registered"


class ConflictError(RefusedError):
    """The request contradicts what is already recorded."""

    code = "conflict"
    http_status = 409


class UnknownObjectError(RefusedError):
    """There is no such object here."""

    code = "unknown-object"
    http_status = 404


class LimitExceededError(RefusedError):
    """A size or count is above its limit."""

    code = "limit-exceeded"
    http_status = 413


class UnavailableError(BistroError):
    """The other side cannot be used now; the same request may be made again later.

    Attributes:
        retry_after_s: When it wants to be asked again, in seconds from now; None: not said.
        sisters: Whom a relay that turns an upload away names instead, as it came: not verified.
        is_answer: Whether the other side said so itself; else it was not reached.
    """

    sisters: str | None = None
    is_answer: bool = False

    code = "unavailable"
    http_status = 503
    exit_code = 5

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class OverloadedError(UnavailableError):
    """More is asked than can be served in time; nothing was stamped or stored."""

    code = "overloaded"


class RelayFullError(UnavailableError):
    """The relay has no room for this fragment; another relay may have."""

    code = "relay-full"
    http_status = 507


class StorageError(BistroError):
    """Our own disk or database failed; whoever runs this program must act."""

    code = "storage"
    http_status = 500
    exit_code = 1


class SettingsError(BistroError):
    """Settings or options are wrong; nothing was started."""

    code = "settings"
    exit_code = 2


def _all_subclasses(base: type[BistroError]) -> list[type[BistroError]]:
    found: list[type[BistroError]] = []
    for child in base.__subclasses__():
        found.append(child)
        found.extend(_all_subclasses(child))
    return found


def catalogue() -> dict[str, type[BistroError]]:
    """Every protocol code and its class, in the order they are declared above."""
    return {cls.code: cls for cls in _all_subclasses(BistroError)}


def error_for_code(
    code: str, message: str, *, hint: str = "", retry_after_s: float | None = None
) -> BistroError:
    """The error that a peer's ``code`` stands for; an unknown code is ``UnavailableError``.

    A peer that speaks nonsense is treated as a peer that cannot be used now.
    """
    cls = catalogue().get(code)
    if cls is None:
        return UnavailableError(f"unknown error code {code!r}: {message}", hint=hint)
    if issubclass(cls, UnavailableError):
        return cls(message, hint=hint, retry_after_s=retry_after_s)
    return cls(message, hint=hint)
