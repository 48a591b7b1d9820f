"""What a run shows: who was in time, who got what, how long it took, and what was broken.

Pure: takes what the client saw and what the log holds.

Source: docs/reference/workload.md, verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.entry import TicketEntry, decode_entry
from bistro.wire.refusal import Refusal
from bistro.wire.ticket import Ticket
from tests.workload.records import Record, Run

EDGE_MS: Final = 100
"""A request of the last moments of the grace may arrive after it; such are counted apart."""
LATE_LIMIT_S: Final = 0.1
"""A generator that was later than this even once did not generate the profile."""
SAMPLE: Final = 500
_FAULTS: Final = 20


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all are at most; 0 of none."""
    if not ascending:
        return 0.0
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


@dataclass(frozen=True, slots=True)
class Spread:
    """Quantiles of durations, in seconds."""

    count: int
    p50: float
    p99: float
    p999: float
    longest: float

    @classmethod
    def of(cls, durations: Sequence[float]) -> Spread:
        """The quantiles of ``durations``, in any order."""
        found = sorted(durations)
        shares = (percentile(found, share) for share in (0.5, 0.99, 0.999, 1.0))
        return cls(len(found), *shares)


@dataclass(frozen=True, slots=True)
class Rules:
    """Where the window stood in time.

    Attributes:
        begin_at: When it began.
        opens_s: When the call opened, seconds of the window.
        last_at: The last millisecond of the grace.
    """

    begin_at: UnixMillis
    opens_s: float
    last_at: UnixMillis

    def is_in_time(self, record: Record) -> bool:
        """Whether a filer asked in time, and not only just."""
        return record.asked_at <= self.last_at - EDGE_MS

    def is_late(self, record: Record) -> bool:
        """Whether a filer asked after the grace."""
        return record.asked_at > self.last_at

    def waited_s(self, record: Record) -> float:
        """From when a filer could have a ticket at the earliest to the answer."""
        return (record.took_s or 0.0) - max(0.0, self.opens_s - record.due_s)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The numbers, and what was broken.

    Attributes:
        in_time: Filers who asked in time.
        edge: Filers who asked in the last moments of the grace.
        edge_refused: Of those, refused.
        refused: Filers who asked too late, and hold a refusal.
        unanswered: Filers who asked too late, and hold nothing.
        again: Filers who had to ask more than once.
        ticket_time: From when a ticket was due to the ticket.
        lateness: Of the generator.
        sampled: Promises whose signatures and paths were verified.
        faults: In words.
    """

    in_time: int
    edge: int
    edge_refused: int
    refused: int
    unanswered: int
    tickets: int
    again: int
    ticket_time: Spread
    lateness: Spread
    log_size: int
    sampled: int
    faults: tuple[str, ...] = field(default=())

    @property
    def is_valid(self) -> bool:
        """Whether the generator kept its times."""
        return self.lateness.count > 0 and self.lateness.longest <= LATE_LIMIT_S


def judge(
    run: Run,
    rules: Rules,
    *,
    entries: Sequence[bytes],
    key: VerifierKey,
    origin: Origin,
    commitments: Sequence[bytes],
) -> Verdict:
    """The verdict about a run.

    Args:
        run: What the client saw.
        rules: When what was in time.
        entries: The whole log afterwards.
        key: The call's log key.
        origin: The call.
        commitments: What each filing asked for, by its number.
    """
    records = run.records
    tickets = [record for record in records if record.answer == "ticket"]
    edge = [x for x in records if not rules.is_in_time(x) and not rules.is_late(x)]
    late = [record for record in records if rules.is_late(record)]
    promised = [record for record in records if record.promise]
    sample = promised[:: max(1, len(promised) // SAMPLE)]
    faults = [
        *_missing(len(commitments), records),
        *_unfair(records, rules),
        *_lost(tickets, entries, commitments, rules),
        *_doubled(entries),
        *_unproven(sample, key, origin, commitments),
    ]
    return Verdict(
        in_time=sum(map(rules.is_in_time, records)),
        edge=len(edge),
        edge_refused=sum(record.answer == "refusal" for record in edge),
        refused=sum(record.answer == "refusal" for record in late),
        unanswered=sum(record.answer == "none" for record in late),
        tickets=len(tickets),
        again=sum(record.attempts > 1 for record in records),
        ticket_time=Spread.of([rules.waited_s(record) for record in tickets]),
        lateness=Spread.of([record.late_s for record in records]),
        log_size=len(entries),
        sampled=len(sample),
        faults=_shortened(faults),
    )


def _shortened(faults: Sequence[str]) -> tuple[str, ...]:
    rest = len(faults) - _FAULTS
    return (*faults[:_FAULTS], *([f"and {rest} more"] if rest > 0 else []))


def _missing(count: int, records: Sequence[Record]) -> list[str]:
    found = {record.number for record in records}
    return [] if len(found) == count else [f"{count - len(found)} filings were never asked for"]


def _unfair(records: Sequence[Record], rules: Rules) -> list[str]:
    """Those who asked in time and have no ticket, and those who asked late and have one."""
    faults = []
    for record in records:
        who = f"filing {record.number}, asked at {record.due_s:.3f} s"
        if rules.is_in_time(record) and record.answer != "ticket":
            why = f" ({record.problem})" if record.problem else ""
            faults.append(f"{who}, in time: {record.answer} after {record.attempts} attempts{why}")
        if rules.is_late(record) and record.answer == "ticket":
            faults.append(f"{who}, too late: has a ticket")
    return faults


def _lost(
    tickets: Sequence[Record], entries: Sequence[bytes], commitments: Sequence[bytes], rules: Rules
) -> list[str]:
    """Tickets that the log does not hold at their index, for their filing, in time."""
    faults = []
    for record in tickets:
        try:
            ticket = Ticket.parse(record.promise)
        except BistroError as exc:
            faults.append(f"filing {record.number}: {exc.message}")
            continue
        stands = entries[ticket.index] if ticket.index < len(entries) else b""
        if stands != ticket.entry.encode() or ticket.commitment != commitments[record.number]:
            faults.append(f"filing {record.number}: its ticket {ticket.index} is not in the log")
        if ticket.time > rules.last_at:
            faults.append(f"filing {record.number}: its ticket is of {ticket.time}, too late")
    return faults


def _doubled(entries: Sequence[bytes]) -> list[str]:
    """Commitments that the log holds twice, and times that go back."""
    faults: list[str] = []
    seen: set[bytes] = set()
    last = 0
    for index, data in enumerate(entries):
        entry = decode_entry(data)
        if entry.time < last:
            faults.append(f"entry {index}: its time is before that of the entry before")
        last = entry.time
        if isinstance(entry, TicketEntry):
            if entry.digest in seen:
                faults.append(f"entry {index}: a second ticket for the same commitment")
            seen.add(entry.digest)
    return faults


def _unproven(
    sample: Sequence[Record], key: VerifierKey, origin: Origin, commitments: Sequence[bytes]
) -> list[str]:
    """Promises whose signature or path does not hold."""
    faults = []
    for record in sample:
        kind = Ticket if record.answer == "ticket" else Refusal
        try:
            kind.parse(record.promise).verify(key, origin, commitments[record.number])
        except BistroError as exc:
            faults.append(f"filing {record.number}: its {record.answer}: {exc.message}")
    return faults
