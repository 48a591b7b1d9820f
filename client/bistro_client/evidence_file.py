"""The evidence of a submission: put together from what the client holds, checked, then saved.

A file that would not verify is not written over one that does.

Source: docs/spec/evidence.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, StorageError
from bistro.protocol.submission import Submission
from bistro.storage.durable import SYSTEM_DISK, Disk, make_directories, read_file, write_atomically
from bistro.wire.anchor import StampedEntry
from bistro.wire.evidence import MAX_BLOB_SIZE, MAX_EVIDENCE_SIZE, Evidence, TermsVersion
from bistro.wire.manifest import MAX_MANIFEST_SIZE
from bistro.wire.served_terms import MAX_SERVED_TERMS_SIZE, ServedTerms
from bistro_client import messages
from bistro_client.admitting import kept_admission
from bistro_client.home import Folder
from bistro_client.wording import say

_MAX_VERSIONS: Final = 256


@dataclass(frozen=True, slots=True)
class Findings:
    """What a destination published about a call or a submission; each part may be missing."""

    closed: str | None = None
    opening: str | None = None
    minutes: str | None = None
    consistency: tuple[bytes, ...] | None = None
    rotations: tuple[str, ...] = ()
    stamped: StampedEntry | None = None


def save_terms(
    folder: Folder, served: tuple[ServedTerms, ...], *, disk: Disk = SYSTEM_DISK
) -> None:
    """Keep all versions of the terms, so that evidence can be made without the server."""
    make_directories(folder.terms, disk=disk)
    for one in served:
        path = folder.terms_version(one.signed.terms.version)
        data = one.encode()
        if read_file(path, max_size=MAX_SERVED_TERMS_SIZE, disk=disk) != data:
            write_atomically(path, data, disk=disk)


def load_terms(folder: Folder) -> tuple[ServedTerms, ...]:
    """The versions that were kept, oldest first.

    Raises:
        StorageError: One is damaged.
    """
    found: list[ServedTerms] = []
    for version in range(1, _MAX_VERSIONS + 1):
        path = folder.terms_version(version)
        data = read_file(path, max_size=MAX_SERVED_TERMS_SIZE)
        if data is None:
            break
        try:
            found.append(ServedTerms.decode(data))
        except BistroError as exc:
            raise StorageError(f"{path}: {exc.message}", hint=messages.RESTORE) from exc
    return tuple(found)


def recall_terms(folder: Folder) -> tuple[ServedTerms, ...]:
    """As ``load_terms``; none where one is damaged: they can be fetched again."""
    try:
        return load_terms(folder)
    except StorageError:
        return ()


def build(folder: Folder, submission: Submission) -> Evidence | None:
    """The evidence that the client's own files give; None before there is a ticket or refusal.

    Raises:
        StorageError: A file that it is made of is missing or damaged.
    """
    sealed = submission.sealed
    if sealed is None or (submission.ticket is None and submission.refusal is None):
        return None
    served = load_terms(folder)
    if not served:
        raise StorageError(
            say("evidence_file.expected-terms-found", terms=folder.terms), hint=messages.RESTORE
        )
    receipts = [one.receipt for one in submission.fragments if one.receipt is not None]
    lost = [receipt for one in submission.fragments for receipt in one.lost]
    return Evidence(
        origin=submission.request.origin,
        terms_key=submission.request.terms_key,
        terms=tuple(TermsVersion(one.signed.encode().decode(), one.entry.text()) for one in served),
        submission=sealed.signed.encode(),
        layout=sealed.cut.layout.encode(),
        descriptors=tuple(one.encode() for one in sealed.cut.descriptors),
        manifest=_read_manifest(folder),
        ticket=submission.ticket,
        refusal=submission.refusal,
        receipts=tuple(dict.fromkeys([*receipts, *lost])),
        admission=kept_admission(folder),
        status=submission.status,
        outcome=submission.outcome_note,
    )


def update(
    folder: Folder,
    submission: Submission,
    found: Findings | None = None,
    *,
    disk: Disk = SYSTEM_DISK,
) -> Path | None:
    """Write the evidence file anew; its path, or None while there is nothing to prove.

    Args:
        folder: Of the submission.
        submission: Its journal.
        found: Published parts; those of the file before are kept where this has none.
        disk: The system calls to use.

    Raises:
        VerificationError: The new file would not verify; the one before stays.
    """
    evidence = build(folder, submission)
    if evidence is None:
        return None
    before = read_published(folder)
    found = found or Findings()
    evidence = replace(
        evidence,
        closed=found.closed or before.closed,
        opening=found.opening or before.opening,
        minutes=found.minutes or before.minutes,
        consistency=found.consistency if found.minutes else before.consistency,
        rotations=found.rotations or before.rotations,
    )
    stamped = found.stamped or before.stamped
    if stamped is not None and evidence.ticket is not None:
        evidence = replace(evidence, witnessed=stamped.witnessed, timestamps=stamped.timestamps)
    data = evidence.encode()
    require_verifies(evidence)
    if read_file(folder.evidence, max_size=MAX_EVIDENCE_SIZE) != data:
        write_atomically(folder.evidence, data, disk=disk)
    return folder.evidence


def require_verifies(evidence: Evidence) -> None:
    """Check evidence as whoever doubts it would.

    Raises:
        VerificationError: Something in it does not hold.
    """
    # Loaded late: nobody waits for it before the ticket.
    from bistro.protocol.verification import verify_evidence  # noqa: PLC0415

    report = verify_evidence(evidence, trust=VerifierKey.parse(evidence.terms_key))
    if not report.exit_ok:
        raise messages.evidence_fails([(one.part, one.text) for one in report.failures])


def read_published(folder: Folder) -> Findings:
    """The published parts of the file as it is; nothing if it is missing or damaged."""
    data = read_file(folder.evidence, max_size=MAX_EVIDENCE_SIZE)
    if data is None:
        return Findings()
    try:
        before = Evidence.decode(data)
    except BistroError:
        # It was made from the journal and can be made again.
        return Findings()
    return Findings(
        before.closed,
        before.opening,
        before.minutes,
        before.consistency,
        before.rotations,
        None if before.witnessed is None else StampedEntry(before.witnessed, before.timestamps),
    )


def _read_manifest(folder: Folder) -> bytes | None:
    data = read_file(folder.manifest, max_size=MAX_MANIFEST_SIZE)
    return None if data is None or len(data) > MAX_BLOB_SIZE else data
