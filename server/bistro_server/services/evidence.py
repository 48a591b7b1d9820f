"""Puts together the evidence of an opened submission, and checks it as a stranger would.

Everything in it is signed already, by the log key, the status key, relays and the filer: this
only gathers. The log has its last entry by then, so all its proofs end at one checkpoint, which
is that of the minutes.

Source: docs/spec/evidence.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from bistro.daemon import logs
from bistro.errors import StorageError
from bistro.protocol.verification import verify_evidence
from bistro.wire import codec
from bistro.wire.anchor import StampedEntry
from bistro.wire.evidence import MAX_BLOB_SIZE, MAX_RECEIPTS, Evidence, TermsVersion
from bistro.wire.fragment import MAX_DESCRIPTOR_SIZE, MAX_FRAGMENTS
from bistro_server.services.calls import Call
from bistro_server.services.control import CallLog
from bistro_server.store.opening_results import Result

_log = logs.get_logger("opening")


class Place(NamedTuple):
    """What the log shows of one submission.

    Attributes:
        ticket: The proof text, to the checkpoint of the minutes.
        stamped: The same entry under a checkpoint that another authority stamped, if any did.
    """

    ticket: str
    stamped: StampedEntry | None


@dataclass(frozen=True, slots=True)
class CallEvidence:
    """The parts that are the same for every submission of a call."""

    call: Call
    terms: tuple[TermsVersion, ...]
    rotations: tuple[str, ...]
    closed: str
    opening: str
    minutes: str

    @classmethod
    async def gather(cls, call: Call, log: CallLog, *, minutes: bytes) -> Self:
        """Read those parts from the call and its log, which has its last entry.

        Raises:
            StorageError: The log has not what it must have by now.
        """
        versions = []
        for signed in call.versions:
            entry = await log.find_terms(signed.hash)
            if entry is None:
                raise StorageError(f"call {call.id}: terms {signed.hash.hex()} are not in its log")
            versions.append(TermsVersion(signed.encode().decode(), entry.text()))
        closed, opening = await log.find_closed(), await log.find_opening()
        if closed is None or opening is None:
            raise StorageError(f"call {call.id}: its log has no closed or no opening entry")
        keys = [signed.terms.keys.terms for signed in call.versions]
        rotations = tuple(
            version.note
            for version, key, before in zip(versions[1:], keys[1:], keys, strict=False)
            if key != before
        )
        return cls(
            call=call,
            terms=tuple(versions),
            rotations=rotations,
            closed=closed.text(),
            opening=opening.text(),
            minutes=minutes.decode(),
        )

    def build(
        self,
        result: Result,
        *,
        place: Place,
        manifest: bytes | None,
        receipts: list[str],
        status: bytes,
        outcome: bytes,
    ) -> bytes:
        """The file's bytes; takes CPU.

        Receipts that do not hold by all the rules of evidence are left out and logged: what a
        relay promised badly does not spoil what others proved. So are stamps.

        Raises:
            StorageError: Without them it still does not hold: something here is damaged.
        """
        if result.signed is None or result.layout is None or result.descriptors is None:
            raise StorageError(
                f"submission {result.commitment.hex()}: its header or layout is gone"
            )
        limit = MAX_FRAGMENTS * (MAX_DESCRIPTOR_SIZE + 8)
        descriptors = codec.Reader("descriptors", result.descriptors, max_size=limit)
        evidence = Evidence(
            origin=self.call.origin,
            terms_key=self.call.terms.keys.terms.format(),
            terms=self.terms,
            rotations=self.rotations,
            submission=result.signed.encode(),
            layout=result.layout,
            descriptors=tuple(
                descriptors.blob(MAX_DESCRIPTOR_SIZE) for _ in range(len(descriptors))
            ),
            # A longer manifest lies beside this file.
            manifest=manifest if manifest and len(manifest) <= MAX_BLOB_SIZE else None,
            ticket=place.ticket,
            admission=result.admission,
            receipts=tuple(receipts[:MAX_RECEIPTS]),
            witnessed=None if place.stamped is None else place.stamped.witnessed,
            timestamps=() if place.stamped is None else place.stamped.timestamps,
            closed=self.closed,
            opening=self.opening,
            # The ticket is proven to the checkpoint of the minutes: from there it is no step.
            consistency=(),
            status=status.decode(),
            outcome=outcome.decode(),
            minutes=self.minutes,
        )
        return self._require_good(evidence, result.commitment).encode()

    def _require_good(self, evidence: Evidence, commitment: bytes) -> Evidence:
        problems = self._problems(evidence)
        if problems and evidence.timestamps:
            without = replace(evidence, witnessed=None, timestamps=())
            if (left := self._problems(without)) != problems:
                _log.warning("stamps_omitted", commitment=commitment.hex(), message=problems[0])
                evidence, problems = without, left
        if problems and evidence.receipts:
            good = tuple(
                text
                for text in evidence.receipts
                if not self._problems(replace(evidence, receipts=(text,)))
            )
            left_out = len(evidence.receipts) - len(good)
            _log.warning("receipts_omitted", commitment=commitment.hex(), count=left_out)
            evidence = replace(evidence, receipts=good)
            problems = self._problems(evidence)
        if problems:
            raise StorageError(
                f"evidence of {commitment.hex()} does not hold: {problems[0]}",
                hint="run bistro-server doctor; nothing was decided anew",
            )
        return evidence

    def _problems(self, evidence: Evidence) -> list[str]:
        report = verify_evidence(evidence, trust=self.call.terms.keys.terms)
        if report.exit_ok:
            return []
        return [finding.text for finding in report.failures] or ["a part that it needs is missing"]
