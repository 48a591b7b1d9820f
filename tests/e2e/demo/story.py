"""What happened: the record that the table and the report are made of.

Times come from promises where there is one (tickets, receipts, entries of the log); the rest are
read from this machine's clock, the same that the daemons use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bistro.instant import UnixMillis
from bistro.wire.receipt import Receipt
from bistro.wire.refusal import Refusal
from bistro.wire.terms import Terms
from bistro.wire.ticket import Ticket
from bistro_client.home import Folder
from tests.e2e.demo.filings import FILERS, Filing
from tests.e2e.demo.measure import Meter, Transfer
from tests.e2e.demo.promises import Verdicts


@dataclass(slots=True)
class FilingStory:
    """What became of one filing.

    Attributes:
        filing: As it was planned.
        source: The folder with its files.
        home: The folder of its filer's client.
        began_at: When its filer started to submit it.
        exits: Exit codes of the commands that submitted it, in order.
        said: What the last of them wrote to standard error.
        folder: The client's own folder of it; None before there is one.
        commitment: 64 hexadecimal digits.
        attempts: Failures that the client wrote down and overcame.
        inbox: The destination's folder of it, once it was opened.
    """

    filing: Filing
    source: Path
    home: Path
    began_at: UnixMillis | None = None
    exits: list[int] = field(default_factory=list)
    said: str = ""
    folder: Folder | None = None
    commitment: str = ""
    ticket: Ticket | None = None
    refusal: Refusal | None = None
    receipts: tuple[Receipt, ...] = ()
    attempts: int = 0
    collected_at: UnixMillis | None = None
    outcome: str | None = None
    inbox: Path | None = None
    is_identical: bool = False
    is_own_evidence_good: bool = False
    is_inbox_evidence_good: bool = False

    @property
    def label(self) -> str:
        """How people call it."""
        return f"{self.filing.number:02d} {FILERS[self.filing.filer]}"

    @property
    def uploaded_at(self) -> UnixMillis | None:
        """When the last receipt was signed."""
        return max((receipt.time for receipt in self.receipts), default=None)

    @property
    def uploaded_size(self) -> int:
        """Bytes that relays signed for."""
        return sum(receipt.entry.size for receipt in self.receipts)

    @property
    def direct_transfer(self) -> Transfer | None:
        """The same bytes as they would have gone straight to the destination.

        They start when the filer started, and flow as fast as the fragments flowed to the relays
        between the ticket and the last receipt.
        """
        if self.ticket is None or self.uploaded_at is None or self.began_at is None:
            return None
        took_ms = max(1, self.uploaded_at - self.ticket.time)
        alone_ms = max(1, took_ms * self.filing.size // max(1, self.uploaded_size))
        return Transfer(self.began_at, UnixMillis(self.began_at + alone_ms), self.filing.size)


@dataclass(slots=True)
class KillStory:
    """What became of the relay that was killed.

    Attributes:
        relay: Its name.
        at: When it was killed.
        sent: Bytes of the upload that had passed when it was killed.
        size: Bytes of that upload's request.
        back_at: When it listened again.
        path: Of that request.
        requests_seen: Requests that had passed its gate when it was killed.
        resumed_from: The offset at which that upload was continued there, if it was.
        receipts_before: Receipts that it had signed before.
    """

    relay: str
    at: UnixMillis
    sent: int
    size: int
    path: str = ""
    back_at: UnixMillis | None = None
    requests_seen: int = 0
    resumed_from: int | None = None
    receipts_before: int = 0


@dataclass(frozen=True, slots=True)
class RelayStory:
    """One relay as the call's terms name it; ``name`` is also its channel at the meter."""

    name: str
    operator: str


@dataclass(slots=True, kw_only=True)
class Story:
    """The whole performance.

    Attributes:
        clock_statement: What is known or assumed of the clock's error, in a sentence.
        is_clock_assumed: Whether the error is assumed.
        slowness: By what all times were stretched, on a machine that others keep busy.
        destination: The channel of the destination at the meter.
        accident: What kept the demo from going on; promises not examined by then are broken.
        collecting: When collection began and ended; so are the others that follow.
    """

    seed: int
    clock_statement: str
    is_clock_assumed: bool
    meter: Meter
    destination: str
    relays: Sequence[RelayStory]
    filings: list[FilingStory]
    began_at: UnixMillis
    terms: Terms | None = None
    slowness: float = 1.0
    kill: KillStory | None = None
    collecting: tuple[UnixMillis, UnixMillis] | None = None
    opening: tuple[UnixMillis, UnixMillis] | None = None
    opened_at: UnixMillis | None = None
    verified_without_network: bool = False
    verdicts: Verdicts = field(default_factory=Verdicts)
    accident: str | None = None
    ended_at: UnixMillis | None = None

    @property
    def on_time(self) -> list[FilingStory]:
        """The filings that were planned to come in time."""
        return [one for one in self.filings if not one.filing.is_late]

    @property
    def late(self) -> FilingStory:
        """The one that was planned to come too late."""
        return next(one for one in self.filings if one.filing.is_late)

    @property
    def size(self) -> int:
        """Bytes of all filings that were planned to come in time."""
        return sum(one.filing.size for one in self.on_time)

    @property
    def collected_channels(self) -> tuple[str, ...]:
        """Channels of bytes from relays to the destination."""
        return tuple(f"{relay.name}/collected" for relay in self.relays)
