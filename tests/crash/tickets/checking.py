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

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bistro.crypto.merkle import verify_inclusion
from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, FormatError
from bistro.protocol.deadline import latest_on_time
from bistro.wire.checkpoint import Checkpoint, verify_checkpoint
from bistro.wire.entry import ClosedEntry, Entry, RefusedEntry, TicketEntry, decode_entry
from bistro.wire.proof import Proof
from bistro.wire.terms import Terms
from tests.crash.subjects import Findings
from tests.crash.tickets.memory import Held, LedgerName, Seen, TicketMemory
from tests.crash.tickets.reading import leaf, roots_at

_ENOUGH = 8


@dataclass
class LedgerCheck:
    """One ledger, all its entries at hand.

    Attributes:
        name: Which.
        terms: Of its call.
        key: Its key, named as its origin.
        entries: All, in order.
        findings: What was found.
    """

    name: LedgerName
    terms: Terms
    key: VerifierKey
    entries: Sequence[bytes]
    findings: Findings = field(default_factory=Findings)
    _notes: dict[bytes, Checkpoint] = field(default_factory=dict)

    def run(self, memory: TicketMemory) -> Findings:
        """Everything that the module's table says, but asking again."""
        leaves = [leaf(entry) for entry in self.entries]
        held = [one for one in memory.held if one.ledger == self.name]
        seen = [one for one in memory.seen if one.ledger == self.name]
        self._check_entries()
        for promise in held:
            self._check_promise(promise, leaves, memory)
        for sighting in seen:
            self._check_seen(sighting)
        self._check_forks(leaves)
        kind = "tickets" if self.name[1] == "log" else "refusals"
        self.findings.counts[kind] += len(held)
        self.findings.counts["checkpoints"] += len(self._notes)
        self.findings.counts["entries"] += len(self.entries)
        return self.findings

    def _fault(self, text: str) -> None:
        self.findings.faults.append(f"{'/'.join(self.name)}: {text}")

    def _check_entries(self) -> None:
        entries = self._decoded()
        if any(one.time > other.time for one, other in pairwise(entries)):
            self._fault("its times go back")
        stamped = [one.digest for one in entries if isinstance(one, TicketEntry | RefusedEntry)]
        if len(stamped) != len(set(stamped)):
            count = len(stamped) - len(set(stamped))
            self._fault(f"{count} commitments have a second entry")
        last_at = latest_on_time(self.terms)
        is_closed = False
        for index, one in enumerate(entries):
            if isinstance(one, TicketEntry) and (is_closed or one.time > last_at):
                self._fault(f"entry {index} is a ticket of {one.time}, after the deadline")
            if isinstance(one, RefusedEntry | ClosedEntry) and one.time <= last_at:
                self._fault(f"entry {index}, {one.KIND}, is of {one.time}: before the deadline")
            if isinstance(one, ClosedEntry):
                if is_closed:
                    self._fault(f"entry {index} closes the call a second time")
                is_closed = True

    def _decoded(self) -> list[Entry]:
        try:
            return [decode_entry(entry) for entry in self.entries]
        except FormatError as exc:
            self._fault(exc.message)
            return []

    def _checkpoint(self, note: bytes) -> Checkpoint:
        if note not in self._notes:
            self._notes[note] = verify_checkpoint(note, self.key)
        return self._notes[note]

    def _check_promise(self, held: Held, leaves: Sequence[bytes], memory: TicketMemory) -> None:
        try:
            proof = Proof.parse(held.text)
            entry = decode_entry(proof.entry or b"")
            checkpoint = self._checkpoint(proof.checkpoint_note)
            verify_inclusion(
                leaf=leaf(proof.entry or b""),
                index=proof.index,
                size=checkpoint.size,
                path=proof.path,
                root=checkpoint.root,
            )
        except BistroError as exc:
            self._fault(f"a promise does not hold: {exc.message}")
            return
        what = f"entry {proof.index}, promised in life {held.asked.life}"
        kind = TicketEntry if self.name[1] == "log" else RefusedEntry
        if type(entry) is not kind or entry.digest != held.commitment:
            self._fault(f"{what}: it is not what was asked for")
        if proof.index >= len(leaves):
            self._fault(f"{what}: lost, the log ends at {len(leaves)}")
        elif self.entries[proof.index] != proof.entry:
            self._fault(f"{what}: another stands there now")
        if checkpoint.size < held.known_size:
            size = held.known_size
            self._fault(f"{what}: under size {checkpoint.size}, when {size} was known")
        asked_at = memory.asked_at.get((self.name[0], held.commitment), 0)
        if not asked_at <= entry.time <= held.asked.received_at:
            self._fault(
                f"{what}: its time {entry.time} is not between first request {asked_at} "
                f"and answer {held.asked.received_at}"
            )

    def _check_seen(self, seen: Seen) -> None:
        try:
            checkpoint = self._checkpoint(seen.note)
        except BistroError as exc:
            self._fault(f"a checkpoint does not hold: {exc.message}")
            return
        if checkpoint.size < seen.known_size:
            self._fault(f"a checkpoint of {checkpoint.size}, when {seen.known_size} was known")

    def _check_forks(self, leaves: Sequence[bytes]) -> None:
        within = {one.size for one in self._notes.values() if one.size <= len(leaves)}
        roots = roots_at(leaves, within)
        for one in self._notes.values():
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


def shortened(faults: Sequence[str]) -> list[str]:
    """The first few of many."""
    rest = len(faults) - _ENOUGH
    return [*faults[:_ENOUGH], *([f"and {rest} more"] if rest > 0 else [])]
