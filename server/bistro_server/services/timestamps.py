"""RFC 3161: this server's time-stamping authority, and the desk that answers for it.

Nothing is written: a token is evidence in the hands of whoever asked, and a crash loses none
that was given. Serial numbers begin with a prefix that is random in every process, so they need
no file either. Every request is answered at once, in the event loop: one P-256 signature.

A token's time never goes back while the process runs. Where the clock went back a little, the
time stays and the accuracy says by how much; where that is more than may be stamped with, or
where the clock's error is unknown or too large, the answer is ``timeNotAvailable``.

Source: docs/spec/timestamps.md; RFC 3161.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bistro.clock import Clock
from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp.request import Failure, Query, Rejection, parse_query
from bistro.crypto.timestamp.token import Serials, TokenSigner, reject
from bistro.errors import StorageError, UnavailableError, UnknownObjectError
from bistro.instant import UnixMillis
from bistro.ledger.stamping import ClockGuard
from bistro_server.services.authority import Authority

GRANTED: Final = "granted"

Report = Callable[[str], None]
"""Told of every answer: ``GRANTED``, or the name of the failure in lower case."""

_RESOLUTION_MS: Final = 1
"""Times are cut to milliseconds."""
_NEVER_ASKED: Final = Rejection(Failure.TIME_NOT_AVAILABLE, "the clock was not asked")


class TimestampDesk:
    """Answers time-stamp requests.

    Args:
        authority: Signs; ``None`` where there is none.
        clock: Says the time, and by how much it may be wrong.
        policy: Object identifier of the one policy.
        error_limit_ms: The largest clock error with which to stamp.
        randomness: ``PREFIX_SIZE`` random bytes, new in every process.
        report: Told of every answer.
    """

    def __init__(
        self,
        authority: Authority | None,
        clock: Clock,
        *,
        policy: str,
        error_limit_ms: int,
        randomness: bytes,
        report: Report,
    ) -> None:
        self._policy = policy
        self._asked_at = (UnixMillis(-1), -1)
        self._signer: TokenSigner | None = None
        self._valid = (UnixMillis(0), UnixMillis(0))
        if authority is not None:
            self.take_over(authority)
        self._serials = Serials(randomness)
        self._clock = clock
        self._error_limit_ms = error_limit_ms
        self._guard = ClockGuard(clock, error_limit_ms=error_limit_ms)
        self._last = UnixMillis(0)
        self._found: tuple[UnixMillis, int] | Rejection = _NEVER_ASKED
        self._report = report

    @property
    def valid_until(self) -> UnixMillis:
        """When the certificate ends under which tokens are signed now."""
        return self._valid[1]

    def take_over(self, authority: Authority) -> None:
        """Sign with a renewed key or certificate from now on."""
        self._signer = TokenSigner(authority.key, authority.chain, policy=self._policy)
        self._valid = certificates.validity(authority.own)
        # What was found out in this millisecond may have been about the one before.
        self._asked_at = (UnixMillis(-1), -1)

    def answer(self, body: bytes) -> bytes:
        """The response to a request, whatever its bytes are: a token, or why there is none.

        Raises:
            UnknownObjectError: This server gives no time stamps.
        """
        if self._signer is None:
            raise UnknownObjectError(
                "this server gives no RFC 3161 time stamps", hint="ask for a ticket"
            )
        answer = self._answer(self._signer, parse_query(body))
        if isinstance(answer, Rejection):
            self._report(answer.failure.name.lower())
            return reject(answer)
        self._report(GRANTED)
        return answer

    def _answer(self, signer: TokenSigner, query: Query | Rejection) -> bytes | Rejection:
        if isinstance(query, Rejection):
            return query
        if (rejection := signer.judge(query)) is not None:
            return rejection
        # Within one millisecond of both clocks nothing is known anew: they are asked once.
        moment = (self._clock.now(), self._clock.monotonic_ms())
        if moment != self._asked_at:
            self._asked_at = moment
            self._found = self._look()
        if isinstance(self._found, Rejection):
            return self._found
        time, accuracy_ms = self._found
        self._last = time
        return signer.grant(query, serial=self._serials.next(), time=time, accuracy_ms=accuracy_ms)

    def _look(self) -> tuple[UnixMillis, int] | Rejection:
        """The time to stamp, and by how much it may be wrong."""
        try:
            now = self._guard.require_time(previous=self._last, received=self._last)
        except (UnavailableError, StorageError) as exc:
            # A clock that was set stops the ledgers, and with them the server, by itself.
            return Rejection(Failure.TIME_NOT_AVAILABLE, exc.message)
        time = max(self._last, now)
        error_ms = (self._clock.error_bound_ms() or 0) + time - now
        if error_ms > self._error_limit_ms:
            return Rejection(Failure.TIME_NOT_AVAILABLE, "the clock went back")
        begins, ends = self._valid
        if not begins <= time <= ends:
            return Rejection(Failure.SYSTEM_FAILURE, "the certificate is not valid now")
        return time, error_ms + _RESOLUTION_MS
