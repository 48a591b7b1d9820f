"""Whether a service that was started again has kept its word.

| promise | what is compared |
|---|---|
| nothing is lost | every ticket and refusal with the log: entry, index, time, signature, path |
| no fork | every checkpoint ever seen with the root of as many leaves of the log |
| nothing goes back | sizes, in the order in which clients learned them; times of the log |
| once | no commitment has two entries; asked again, it gets the same one |
| the deadline | tickets at most ``grace_ms`` after ``closes``, refusals only later |
| true time | an entry's time lies between first request and answer |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from bistro.crypto.merkle import verify_inclusion
from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, FormatError
from bistro.protocol.deadline import latest_on_time
from bistro.wire.checkpoint import Checkpoint, verify_checkpoint
from bistro.wire.entry import decode_entry
from bistro.wire.proof import Proof
from bistro.wire.terms import Terms
from tests.crash.subjects import Findings
from tests.crash.tickets.memory import Held, LedgerName, Seen, TicketMemory
from tests.crash.trees import leaf, roots_at

_KINDS: Final = {"log": "ticket", "refusals": "refused"}
_STAMPED: Final = frozenset(_KINDS.values())


_ENTRY: Final = re.compile(
    rb"bistro/([a-z]+)/v1\n[^\n]+\n(\d+)\nsha256:([0-9a-f]{64})\n(?:reason ([a-z-]+)\n)?"
)
_LATE: Final = "deadline-passed"


class Line(NamedTuple):
    """What an entry says."""

    kind: str
    time: int
    digest: bytes
    reason: str = ""


def read_entry(entry: bytes) -> Line:
    """What an entry says, for the many that are only looked at.

    Raises:
        ValueError: It is none.
    """
    match = _ENTRY.match(entry)
    if match is None:
        raise ValueError(f"not an entry: {entry[:80]!r}")
    digest, reason = bytes.fromhex(match[3].decode()), (match[4] or b"").decode()
    return Line(match[1].decode(), int(match[2]), digest, reason)


@dataclass(frozen=True, slots=True)
class Proven:
    """What a promise says, once signature and path were verified."""

    index: int
    entry: bytes
    said: Line
    checkpoint: Checkpoint


@dataclass
class Verifier:
    """Verifies promises and checkpoints, each text once, however often it is asked for."""

    notes: dict[tuple[str, bytes], Checkpoint] = field(default_factory=dict)
    promises: dict[tuple[str, str], Proven] = field(default_factory=dict)

    def checkpoint(self, note: bytes, key: VerifierKey) -> Checkpoint:
        """What is signed.

        Raises:
            BistroError: It is not signed by ``key``, or malformed.
        """
        found = self.notes.get((key.name, note))
        if found is None:
            found = self.notes[key.name, note] = verify_checkpoint(note, key)
        return found

    def promise(self, text: str, key: VerifierKey) -> Proven:
        """What is promised.

        Raises:
            BistroError: Signature or path do not hold, or it is malformed.
        """
        found = self.promises.get((key.name, text))
        if found is None:
            proof = Proof.parse(text)
            entry, checkpoint = proof.entry or b"", self.checkpoint(proof.checkpoint_note, key)
            verify_inclusion(
                leaf=leaf(entry),
                index=proof.index,
                size=checkpoint.size,
                path=proof.path,
                root=checkpoint.root,
            )
            decode_entry(entry)
            found = Proven(proof.index, entry, read_entry(entry), checkpoint)
            self.promises[key.name, text] = found
        return found


@dataclass
class LedgerCheck:
    """One ledger, all its entries at hand.

    Attributes:
        name: Which.
        terms: Of its call.
        key: Its key, named as its origin.
        entries: All, in order.
        verifier: Knows what was verified before.
        findings: What was found.
    """

    name: LedgerName
    terms: Terms
    key: VerifierKey
    entries: Sequence[bytes]
    verifier: Verifier
    findings: Findings = field(default_factory=Findings)
    _seen: set[Checkpoint] = field(default_factory=set)

    def run(self, memory: TicketMemory) -> Findings:
        """Everything that the module's table says, but asking again."""
        leaves = [leaf(entry) for entry in self.entries]
        held = [one for one in memory.held if one.ledger == self.name]
        seen = [one for one in memory.seen if one.ledger == self.name]
        self._check_entries()
        for promise in held:
            self._check_promise(promise, memory)
        for sighting in seen:
            self._check_seen(sighting)
        self._check_forks(leaves)
        kind = "tickets" if self.name[1] == "log" else "refusals"
        self.findings.counts[kind] += len(held)
        self.findings.counts["checkpoints"] += len(self._seen)
        self.findings.counts["entries"] += len(self.entries)
        return self.findings

    def _fault(self, text: str) -> None:
        self.findings.faults.append(f"{'/'.join(self.name)}: {text}")

    def _check_entries(self) -> None:
        try:
            entries = list(map(read_entry, self.entries))
        except ValueError as exc:
            self._fault(str(exc))
            return
        if any(one.time > other.time for one, other in pairwise(entries)):
            self._fault("its times go back")
        stamped = [one.digest for one in entries if one.kind in _STAMPED]
        if doubled := len(stamped) - len(set(stamped)):
            self._fault(f"{doubled} commitments have a second entry")
        self._check_deadline(entries)

    def _check_deadline(self, entries: Sequence[Line]) -> None:
        last_at, is_closed = latest_on_time(self.terms), False
        for index, one in enumerate(entries):
            if one.kind == "ticket" and (is_closed or one.time > last_at):
                self._fault(f"entry {index} is a ticket of {one.time}, after the deadline")
            is_late = one.kind == "closed" or one.reason == _LATE
            if is_late and one.time <= last_at:
                self._fault(f"entry {index}, {one.kind}, is of {one.time}: before the deadline")
            if one.kind == "closed":
                if is_closed:
                    self._fault(f"entry {index} closes the call a second time")
                is_closed = True

    def _check_promise(self, held: Held, memory: TicketMemory) -> None:
        try:
            proven = self.verifier.promise(held.text, self.key)
        except (BistroError, ValueError) as exc:
            self._fault(f"a promise does not hold: {exc}")
            return
        index, said, checkpoint = proven.index, proven.said, proven.checkpoint
        self._seen.add(checkpoint)
        what = f"entry {index}, promised in life {held.asked.life}"
        if (said.kind, said.digest) != (_KINDS[self.name[1]], held.commitment):
            self._fault(f"{what}: it is not what was asked for")
        if index >= len(self.entries):
            self._fault(f"{what}: lost, the log ends at {len(self.entries)}")
        elif self.entries[index] != proven.entry:
            self._fault(f"{what}: another stands there now")
        if checkpoint.size < held.known_size:
            size = held.known_size
            self._fault(f"{what}: under size {checkpoint.size}, when {size} was known")
        asked_at = memory.asked_at.get((self.name[0], held.commitment), 0)
        if not asked_at <= said.time <= held.asked.received_at:
            self._fault(
                f"{what}: its time {said.time} is not between first request {asked_at} "
                f"and answer {held.asked.received_at}"
            )

    def _check_seen(self, seen: Seen) -> None:
        try:
            checkpoint = self.verifier.checkpoint(seen.note, self.key)
        except BistroError as exc:
            self._fault(f"a checkpoint does not hold: {exc.message}")
            return
        self._seen.add(checkpoint)
        if checkpoint.size < seen.known_size:
            self._fault(f"a checkpoint of {checkpoint.size}, when {seen.known_size} was known")

    def _check_forks(self, leaves: Sequence[bytes]) -> None:
        within = {one.size for one in self._seen if one.size <= len(leaves)}
        roots = roots_at(leaves, within)
        for one in self._seen:
            if one.size > len(leaves):
                self._fault(f"a checkpoint of {one.size} was seen, the log ends at {len(leaves)}")
            elif roots[one.size] != one.root:
                self._fault(f"fork: a checkpoint of {one.size} has another root than the log")


def repetition_faults(first: Sequence[Held], again: Sequence[Held | None]) -> list[str]:
    """Where asking again did not give the same entry."""
    faults = []
    for one, other in zip(first, again, strict=True):
        if other is None:
            faults.append(f"{'/'.join(one.ledger)}: asked again, there is no answer")
        elif place_of(one) != place_of(other):
            faults.append(f"{'/'.join(one.ledger)}: asked again, there is another entry")
    return faults


def place_of(held: Held) -> tuple[LedgerName, int, bytes | None] | None:
    """Ledger, index and entry of a promise; ``None``: it cannot be read."""
    try:
        proof = Proof.parse(held.text)
    except FormatError:
        return None
    return held.ledger, proof.index, proof.entry
