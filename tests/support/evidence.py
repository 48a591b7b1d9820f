"""A whole submission in memory: every promise, note and part that evidence can hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bistro.crypto.digest import sha256
from bistro.crypto.merkle import inclusion_path, root_of
from bistro.crypto.signing import SigningKey, sign_message
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.admission import Admission
from bistro.wire.clauses import Spread
from bistro.wire.entry import (
    ClosedEntry,
    OpeningEntry,
    ReceiptEntry,
    RefusedEntry,
    TermsEntry,
    TicketEntry,
    decode_entry,
)
from bistro.wire.evidence import Evidence, TermsVersion
from bistro.wire.fragment import Cut, Descriptor, Layout
from bistro.wire.header import SIGNATURE_PREFIX, Header, SignedHeader
from bistro.wire.manifest import File, Manifest
from bistro.wire.minutes import Minutes, MinutesEntry, salted_outcome
from bistro.wire.status import MinutesPlace, Outcome, Status
from bistro.wire.terms import Terms, build
from tests.support.promises import MemoryLedger
from tests.support.strategies import (
    X25519_RECIPIENTS,
    call_keys,
    note_key,
    private_key,
    relay_named,
)

ORIGIN = Origin("permits.example", "spring")
SERVER_KEY = note_key(ORIGIN.server)
RELAYS = ("relay-0.example", "relay-1.example", "relay-2.example")
HOUR = 3_600_000
DAY = 24 * HOUR
OPENS = 1_790_000_000_000
CLOSES = OPENS + 10 * DAY
STAGE_BY = CLOSES + 2 * DAY
REPAIR_BY = CLOSES + 4 * DAY


def at(time: int) -> UnixMillis:
    """``time`` as a point in time."""
    return UnixMillis(time)


def first_terms(**changes: object) -> Terms:
    """Version 1 of the terms of a call with three relays, two fragments of three."""
    fields: dict[str, object] = {
        "origin": ORIGIN,
        "title": "Spring permits",
        "opens": OPENS,
        "closes": CLOSES,
        "grace_ms": 5_000,
        "stage_by": STAGE_BY,
        "repair_by": REPAIR_BY,
        "recipients": X25519_RECIPIENTS[:1],
        "envelope_limit": 1_000_000,
        "files_limit": 100,
        "spread": Spread(2, 3),
        "keys": call_keys(ORIGIN),
        "relays": tuple(relay_named(name) for name in RELAYS),
    }
    return Terms(**(fields | changes))  # type: ignore[arg-type]


def next_terms(old: Terms, **changes: object) -> Terms:
    """The version after ``old``."""
    fields = {"version": old.version + 1, "supersedes": old.hash}
    return replace(old, **(fields | changes))  # type: ignore[arg-type]


@dataclass
class Filing:
    """One filer's submission, and everything that others promised about it.

    Methods are the events of its life; each adds to ``evidence`` what it leaves behind.
    """

    terms: Terms = field(default_factory=first_terms)
    signer: SigningKey = SERVER_KEY
    evidence: Evidence = field(init=False)

    def __post_init__(self) -> None:
        self.log = MemoryLedger(note_key(str(ORIGIN)))
        self.refusals = MemoryLedger(note_key(str(ORIGIN)).renamed(ORIGIN.refusals))
        self.manifest = Manifest(files=(File("form.xml", 11, "application/xml", sha256(b"form")),))
        filer = private_key("ada")
        header = Header(
            terms_hash=self.terms.hash,
            manifest_sha256=self.manifest.digest,
            filer_key=filer.public_key().public_bytes_raw(),
            slot="main",
            kind="submit",
            previous=None,
            nonce=sha256(b"nonce"),
        )
        signature = sign_message(filer, SIGNATURE_PREFIX, header.encode())
        self.header = header
        layout = Layout(envelope_hash=sha256(b"envelope"), envelope_size=1_000, k=2, n=3)
        descriptors = tuple(
            Descriptor(index, layout.fragment_size, sha256(bytes([index]))) for index in range(3)
        )
        self.cut = Cut(layout, descriptors)
        self.commitment = self.cut.commitment(header.leaf)
        self._versions: list[tuple[int, str]] = []
        self._log_terms(self.terms, OPENS - DAY)
        self.evidence = Evidence(
            origin=ORIGIN,
            terms_key=self.signer.verifier.format(),
            terms=self._terms(),
            submission=SignedHeader(header, signature).encode(),
            layout=layout.encode(),
            descriptors=tuple(one.encode() for one in descriptors),
            manifest=self.manifest.encode(),
            ticket="not yet",
        )

    def _log_terms(self, terms: Terms, time: int, *keys: SigningKey) -> None:
        entry = TermsEntry(origin=str(ORIGIN), time=at(time), digest=terms.hash)
        note = build(terms, *(keys or (self.signer,))).encode().decode()
        self._versions.append((self.log.append(entry), note))

    def _terms(self) -> tuple[TermsVersion, ...]:
        return tuple(
            TermsVersion(note, self.log.prove(index).format().decode())
            for index, note in self._versions
        )

    def add(self, **parts: object) -> Filing:
        """Put parts into the evidence."""
        self.evidence = replace(self.evidence, **parts)  # type: ignore[arg-type]
        return self

    def extend(self, time: int, *keys: SigningKey, **changes: object) -> Filing:
        """A new version of the terms comes into force."""
        self.terms = next_terms(self.terms, **changes)
        self._log_terms(self.terms, time, *keys)
        return self.add(terms=self._terms())

    def others(self, count: int, time: int) -> Filing:
        """Other filers get tickets."""
        for number in range(count):
            digest = sha256(f"other {len(self.log.entries)} {number}".encode())
            self.log.append(TicketEntry(origin=str(ORIGIN), time=at(time), digest=digest))
        return self

    def admitted(self, **changes: object) -> Filing:
        """The filer asks to be admitted, for what ``changes`` say instead of the truth."""
        fields: dict[str, object] = {
            "commitment": self.commitment,
            "terms_hash": self.terms.hash,
            "slot": self.header.slot,
        }
        who = private_key(str(changes.pop("who", "ada")))
        made = Admission.sign(who, **(fields | changes))  # type: ignore[arg-type]
        return self.add(admission=made.encode())

    def ticketed(self, time: int = CLOSES - HOUR) -> Filing:
        """The commitment gets its ticket."""
        admission = None if self.evidence.admission is None else sha256(self.evidence.admission)
        entry = TicketEntry(
            origin=str(ORIGIN), time=at(time), digest=self.commitment, admission=admission
        )
        self.ticket_index = self.log.append(entry)
        self.ticket_time = at(time)
        self.ticket_size = len(self.log.entries)
        return self.add(ticket=self.log.prove(self.ticket_index).format().decode())

    def refused(self, time: int = CLOSES + HOUR, reason: str = "deadline-passed") -> Filing:
        """The commitment is refused."""
        entry = RefusedEntry(
            origin=ORIGIN.refusals, time=at(time), digest=self.commitment, reason=reason
        )
        ticket = None if self.evidence.ticket == "not yet" else self.evidence.ticket
        return self.add(refusal=self.refusals.promise(entry), ticket=ticket)

    def receipt(self, index: int, **changes: object) -> str:
        """What relay ``index`` promises about fragment ``index``."""
        relay = str(changes.pop("relay", RELAYS[index]))
        origin = ORIGIN.custody(relay)
        descriptor = self.cut.descriptors[index]
        entry = ReceiptEntry(
            origin=origin,
            time=at(CLOSES - HOUR // 2),
            digest=self.commitment,
            index=index,
            size=descriptor.size,
            fragment_hash=descriptor.fragment_hash,
            hold_until=at(REPAIR_BY + 7 * DAY),
        )
        ledger = MemoryLedger(note_key(relay).renamed(origin))
        return ledger.promise(replace(entry, **changes))  # type: ignore[arg-type]

    def staged(self, *indexes: int) -> Filing:
        """Relays hold fragments."""
        return self.add(receipts=tuple(self.receipt(index) for index in indexes or (0, 1, 2)))

    def closed(self, time: int = CLOSES + 5_001) -> Filing:
        """The call closes."""
        entry = ClosedEntry(origin=str(ORIGIN), time=at(time), digest=self.terms.hash)
        return self.add(closed=self.log.promise(entry))

    def opened(self, time: int = STAGE_BY + 1) -> Filing:
        """The call is opened: minutes, outcome, status and the proof that the log only grew.

        The minutes say that this one was opened; the back office accepts it a moment later.
        """
        self.opened_at = at(time)
        entry = OpeningEntry(origin=str(ORIGIN), time=at(time), digest=self.terms.hash)
        self.add(opening=self.log.promise(entry))
        self.recorded("opened")
        self.status = Status(
            origin=ORIGIN,
            commitment=self.commitment,
            state="opened",
            ticketed_at=self.ticket_time,
            index=self.ticket_index,
            updated_at=at(time + 5),
            fragments=(0, 1),
            needed=2,
        )
        return self.add(consistency=self.log.consistency(self.ticket_size)).state()

    def recorded(
        self,
        outcome: str,
        *,
        token: bytes | None = None,
        hidden: int = 0,
        invented: int = 0,
        stated: str = "accepted",
    ) -> Filing:
        """Minutes of the opening and the outcome note that points into them.

        Args:
            outcome: What the minutes say of this submission.
            token: What salts it; that of the header if it is not given.
            hidden: How many of the others, the first ones, are left out.
            invented: How many are added at the end that are not in the log.
            stated: What the note says.
        """
        mine = MinutesEntry(
            index=self.ticket_index,
            commitment=self.commitment,
            salted=salted_outcome(self.header.token if token is None else token, outcome),
        )
        logged = [decode_entry(data) for data in self.log.entries]
        entries = [
            mine
            if one.digest == self.commitment
            else MinutesEntry(index=at, commitment=one.digest, salted=salted_outcome(b"", "lapsed"))
            for at, one in enumerate(logged)
            if isinstance(one, TicketEntry)
        ][hidden:]
        entries += [MinutesEntry(index=0, commitment=bytes(32), salted=bytes(32))] * invented
        leaves = [one.leaf for one in entries]
        index = entries.index(mine)
        self.minutes = Minutes(
            origin=ORIGIN,
            checkpoint_note=self.log.checkpoint_note(),
            opened_at=self.opened_at,
            present=("opener",),
            dealer=None,
            count=len(entries),
            root=root_of(leaves),
        )
        self.outcome = Outcome(
            origin=ORIGIN,
            commitment=self.commitment,
            state="opened",
            outcome=stated,
            minutes=MinutesPlace(
                entry=mine.encode(), index=index, path=inclusion_path(leaves, index)
            ),
            updated_at=at(self.opened_at + 5),
        )
        return self

    def state(self, **changes: object) -> Filing:
        """Sign status, outcome and minutes; ``changes`` are whole statements."""
        for name, statement in changes.items():
            setattr(self, name, statement)
        key = note_key(ORIGIN.status)
        return self.add(
            minutes=self.minutes.sign(key).decode(),
            outcome=self.outcome.sign(key).decode(),
            status=self.status.sign(key).decode(),
        )


def whole_filing() -> Filing:
    """A submission that went all the way, among others."""
    filing = Filing().others(3, CLOSES - 2 * HOUR).ticketed().others(4, CLOSES)
    return filing.staged().closed().opened()
