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
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from bistro.clock import Clock
from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp.request import Failure, Query, Rejection, parse_query
from bistro.crypto.timestamp.token import Serials, TokenSigner, reject
from bistro.errors import (
    FormatError,
    SettingsError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
    VerificationError,
)
from bistro.instant import UnixMillis, format_rfc3339
from bistro.ledger.stamping import ClockGuard
from bistro.storage.durable import write_atomically
from bistro_server.services.folder import ServerFolder, require_file

GRANTED: Final = "granted"

Report = Callable[[str], None]
"""Told of every answer: ``GRANTED``, or the name of the failure in lower case."""

_RESOLUTION_MS: Final = 1
"""Times are cut to milliseconds."""
_SOON_MS: Final = timedelta(days=14) // timedelta(milliseconds=1)
_HINT = "correct [timestamps] in the settings"
_NEVER_ASKED: Final = Rejection(Failure.TIME_NOT_AVAILABLE, "the clock was not asked")


@dataclass(frozen=True, slots=True)
class Authority:
    """A key and the certificates that vouch for it, its own first."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]


def make_authority(folder: ServerFolder, *, name: str, now: UnixMillis) -> None:
    """Write a new key, and a certificate for it that vouches for itself.

    Raises:
        StorageError: The disk failed.
    """
    key = certificates.generate_key()
    certificate = certificates.make_certificate(key, name=name, now=now)
    # A key without its certificate, after a crash here, is refused by whoever loads it.
    write_atomically(folder.tsa_key, certificates.encode_key(key))
    write_atomically(folder.tsa_certificate, certificates.encode_chain((certificate,)))


def load_authority(
    folder: ServerFolder, *, key_path: Path | None, certificate_path: Path | None
) -> Authority | None:
    """The authority of a server; ``None`` where the settings name none and ``init`` made none.

    Args:
        folder: Holds what ``init`` made.
        key_path: A PEM file to take instead.
        certificate_path: The same of its chain; given with ``key_path`` or not at all.

    Raises:
        SettingsError: A file is missing or wrong, or the certificate is not one for this.
        StorageError: A file cannot be read.
    """
    key_file = key_path or folder.tsa_key
    chain_file = certificate_path or folder.tsa_certificate
    if key_path is None and not key_file.exists() and not chain_file.exists():
        return None
    key_data = require_file(key_file, what="time-stamp key", hint=_HINT)
    chain_data = require_file(chain_file, what="time-stamp certificate", hint=_HINT)
    try:
        key = certificates.decode_key(key_data)
        chain = certificates.decode_chain(chain_data)
        certificates.require_pair(key, chain[0])
    except (FormatError, VerificationError) as exc:
        message = f"{key_file}, {chain_file}: {exc.message}"
        raise SettingsError(message, hint=_HINT) from exc
    return Authority(key, chain)


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
        self._signer: TokenSigner | None = None
        self._valid = (UnixMillis(0), UnixMillis(0))
        if authority is not None:
            self._signer = TokenSigner(authority.key, authority.chain, policy=policy)
            self._valid = certificates.validity(authority.chain[0])
        self._serials = Serials(randomness)
        self._clock = clock
        self._error_limit_ms = error_limit_ms
        self._guard = ClockGuard(clock, error_limit_ms=error_limit_ms)
        self._last = UnixMillis(0)
        self._asked_at = (UnixMillis(-1), -1)
        self._found: tuple[UnixMillis, int] | Rejection = _NEVER_ASKED
        self._report = report

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


def describe_authority(authority: Authority, clock: Clock) -> str:
    """What ``doctor`` shows of an authority.

    Raises:
        SettingsError: Its certificate is not valid for long enough.
    """
    own = authority.chain[0]
    begins, ends = certificates.validity(own)
    now = clock.now()
    if now < begins or ends - now < _SOON_MS:
        raise SettingsError(
            f"the time-stamp certificate is valid from {format_rfc3339(begins)}"
            f" until {format_rfc3339(ends)} only",
            hint="renew it",
        )
    fingerprint = own.fingerprint(SHA256()).hex()
    return f"certificate valid until {format_rfc3339(ends)}, SHA-256 {fingerprint}"
