"""Checks a file without network: evidence, or a bare ticket, refusal or receipt.

The file is judged by what is in it, not by its name. A bare promise needs the key of its maker:
one that is given, or the terms in evidence that lies beside it.

Source: docs/spec/evidence.md, checking.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from bistro.crypto.keyfile import filer_fingerprint
from bistro.crypto.signing import VerifierKey
from bistro.crypto.timestamp.chain import fingerprints, load_trusted
from bistro.errors import BistroError, FormatError, SettingsError, StorageError, VerificationError
from bistro.instant import UnixMillis, format_rfc3339
from bistro.protocol.evidence_case import Case, read_case
from bistro.protocol.findings import Finding, Findings, Report, State
from bistro.protocol.verification import verify_evidence, verify_promise
from bistro.storage.durable import read_file
from bistro.wire.evidence import MAX_EVIDENCE_SIZE, Evidence
from bistro.wire.header import SignedHeader
from bistro.wire.proof import MAGIC
from bistro.wire.receipt import Receipt
from bistro.wire.refusal import Refusal
from bistro.wire.ticket import Ticket
from bistro_client import messages
from bistro_client.wording import say

AnyPromise: TypeAlias = Ticket | Refusal | Receipt
_PROMISES: Final[tuple[type[AnyPromise], ...]] = (Ticket, Refusal, Receipt)
_EVIDENCE: Final = "*.evidence.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a file shows.

    Attributes:
        path: The file.
        kind: ``evidence``, ``ticket``, ``refusal`` or ``receipt``.
        summary: Who filed what to whom, as the file says.
        report: Every finding.
        is_trusted: Whether a key that the reader trusts stands behind it; otherwise it shows
            only what the keys in it have signed, whoever holds them.
    """

    path: Path
    kind: str
    summary: str
    report: Report
    is_trusted: bool

    @property
    def holds(self) -> bool:
        """Whether everything that the file claims holds."""
        return self.report.exit_ok


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom the reader believes.

    Attributes:
        given: Keys that the reader named.
        pinned: Terms keys that this client has pinned.
        authorities: SHA-256 of certificates of time-stamp authorities.
    """

    given: Sequence[VerifierKey] = ()
    pinned: Sequence[VerifierKey] = ()
    authorities: Collection[bytes] = ()

    def server(self, name: str) -> VerifierKey | None:
        """The terms key to hold against a server's terms; a given one counts more."""
        for key in (*self.given, *self.pinned):
            if key.name == name:
                return key
        # A key that was given for another server must not be passed over in silence.
        return self.given[0] if self.given else None

    def named(self, name: str) -> VerifierKey | None:
        """The given key of exactly this name."""
        return next((key for key in self.given if key.name == name), None)


def verify_file(
    path: Path,
    trust: Trust,
    *,
    beside: Path | None = None,
    now: UnixMillis | None = None,
) -> Verdict:
    """Check a file; what does not hold is in the report, not raised.

    Args:
        path: The file.
        trust: Whom the reader believes.
        beside: Evidence that names the keys for a bare promise; looked for where it usually
            lies when not given.
        now: The reader's time, to tell whether a hold has run out.

    Raises:
        SettingsError: There is no such file, it cannot be read, or there is no key for a bare
            promise.
        VerificationError: It is nothing that Bistro writes, or was damaged beyond reading.
    """
    data = _read(path)
    if data.startswith(MAGIC.encode()):
        return _verify_promise(path, data, trust, beside)
    try:
        evidence = Evidence.decode(data)
    except FormatError as exc:
        raise messages.unknown_file(path, exc) from exc
    trusted = trust.server(evidence.origin.server)
    report = verify_evidence(evidence, trust=trusted, now=now, authorities=trust.authorities)
    return Verdict(path, "evidence", _summary(evidence), report, trusted is not None)


def read_authorities(path: Path) -> tuple[bytes, ...]:
    """SHA-256 of the certificates in a file.

    Raises:
        SettingsError: There is no such file, or it holds none.
    """
    try:
        return fingerprints(load_trusted(_read(path)))
    except FormatError as exc:
        raise SettingsError(
            f"{path}: {exc.message}", hint=say("verifying.name-certificate-with")
        ) from exc


def _read(path: Path) -> bytes:
    """The file; whether what it holds is anything, is for others to say."""
    try:
        data = read_file(path, max_size=MAX_EVIDENCE_SIZE)
    except StorageError as exc:
        if path.is_file() and path.stat().st_size > MAX_EVIDENCE_SIZE:
            raise messages.unknown_file(path, exc) from exc
        raise messages.unreadable_file(exc) from exc
    if data is None:
        raise messages.no_such_file(path)
    return data


def _summary(evidence: Evidence) -> str:
    """What the file is about, before anything is believed."""
    try:
        header = SignedHeader.decode(evidence.submission).header
        promise: AnyPromise
        if evidence.ticket is not None:
            promise, what = Ticket.parse(evidence.ticket), say("verifying.with-ticket")
        else:
            promise, what = Refusal.parse(evidence.refusal or ""), say("verifying.refused-at")
    except FormatError:
        return say("verifying.says-about-filing", origin=evidence.origin)
    filer = filer_fingerprint(header.filer_key)
    at = format_rfc3339(promise.time)
    return say(
        "verifying.filed-by-key",
        filer=filer,
        origin=evidence.origin,
        slot=header.slot,
        what=what,
        at=at,
    )


def _verify_promise(path: Path, data: bytes, trust: Trust, beside: Path | None) -> Verdict:
    promise = _parse(path, data)
    key = trust.named(_maker_of(promise))
    summary = say(
        "verifying.says-what-promised", origin=promise.origin, time=format_rfc3339(promise.time)
    )
    if key is not None:
        return Verdict(path, promise.NAME, summary, verify_promise(promise, key=key), True)
    case, found = _find_case(path, promise, trust, beside)
    if case is None:
        raise messages.no_context(path, promise.origin)
    report = _with_case(_report_by(case, promise), promise, case, found)
    is_trusted = trust.server(case.evidence.origin.server) is not None
    return Verdict(path, promise.NAME, summary, report, is_trusted)


def _parse(path: Path, data: bytes) -> AnyPromise:
    error: BistroError | None = None
    for kind in _PROMISES:
        try:
            return kind.parse(data)
        except FormatError as exc:
            error = error or exc
    raise messages.unknown_file(path, error)


def _maker_of(promise: AnyPromise) -> str:
    """The name under which its maker's key is known: the call's log, or the relay."""
    if isinstance(promise, Receipt):
        return promise.relay
    return promise.origin.removesuffix("/refusals")


def _call_of(promise: AnyPromise) -> str:
    return promise.origin if isinstance(promise, Ticket) else promise.call_origin


def _find_case(
    path: Path, promise: AnyPromise, trust: Trust, beside: Path | None
) -> tuple[Case | None, Path]:
    """Evidence of the promise's call whose terms hold: about its own submission, if there is."""
    other: tuple[Case | None, Path] = (None, path)
    for candidate in _candidates(path, beside):
        case = _read_case(candidate, promise, trust)
        if case is not None and case.commitment == promise.commitment:
            return case, candidate
        if case is not None:
            other = case, candidate
    return other


def _candidates(path: Path, beside: Path | None) -> Iterator[Path]:
    if beside is not None:
        yield beside
        return
    folder = path.absolute().parent
    for near in (folder, folder.parent):
        yield from sorted(near.glob(_EVIDENCE))


def _read_case(path: Path, promise: AnyPromise, trust: Trust) -> Case | None:
    data = read_file(path, max_size=MAX_EVIDENCE_SIZE)
    try:
        evidence = Evidence.decode(data or b"")
    except FormatError:
        return None
    if str(evidence.origin) != _call_of(promise):
        return None
    return read_case(evidence, Findings(), trust.server(evidence.origin.server))


def _report_by(case: Case, promise: AnyPromise) -> Report:
    """What the key, or one of the keys, that the terms name for its maker says of a promise."""
    keys = [case.log_key]
    if isinstance(promise, Receipt):
        # A later version of the terms may name another key for a relay.
        named = [version.terms.relay(promise.relay) for version in reversed(case.versions)]
        keys = [relay.vkey for relay in named if relay is not None]
    if not keys:
        raise VerificationError(say("verifying.terms-name-no", origin=promise.origin))
    reports = [verify_promise(promise, key=key) for key in keys]
    return next((report for report in reports if report.exit_ok), reports[0])


def _with_case(report: Report, promise: AnyPromise, case: Case, found: Path) -> Report:
    """Say also where the key came from, and whether the promise is about that submission."""
    kept = [one for one in report.findings if one.part != "submission"]
    signer = case.latest.keys.terms
    kept.append(
        Finding(
            State.OPEN,
            "key",
            say(
                "verifying.key-comes-from",
                found=found.name,
                signer=signer.name,
                fingerprint=signer.fingerprint(),
            ),
        )
    )
    if case.commitment == promise.commitment:
        text = say("verifying.about-submission-whose", found=found.name)
        kept.append(Finding(State.OK, "submission", text))
    else:
        text = say("verifying.about-another-submission", found=found.name)
        kept.append(Finding(State.OPEN, "submission", text))
    return Report(tuple(kept), report.needed)
