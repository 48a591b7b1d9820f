"""Whether a relay's custody ledger, as it lies on its disk, says what clients were told.

| promise | what is compared |
|---|---|
| nothing is lost | every receipt with the ledger: entry, index, time, signature, path |
| no fork | every checkpoint in a receipt with the root of as many entries |
| once | no fragment has two receipts, none is released twice |
| on record | whoever is gone has a ``released`` entry behind its receipt: by the signed request |
| | or takedown that it names, or as the hold was over |
| true time | a receipt's time lies between first request and answer |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bistro.clock import SystemClock
from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError
from bistro.ids import Origin
from bistro.storage.blobs import BlobStore
from bistro.wire.batches import SignedRequest, decode_releases
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.entry import CustodyEntry, HeldEntry, ReceiptEntry, ReleasedEntry, decode_entry
from bistro.wire.receipt import Receipt
from bistro.wire.relay_notes import Takedown
from bistro_relay.app.composition import REQUESTS
from bistro_relay.services.ledgers import CustodyLedgers
from bistro_relay.store.takedowns import TakedownFiles
from tests.crash.programs import ERROR_MS
from tests.crash.relays.memory import RelayMemory
from tests.crash.relays.town import Key, spell
from tests.crash.subjects import Findings
from tests.crash.trees import leaf, roots_at
from tests.support.paper import RELAY
from tests.support.strategies import note_key


def _ledgers(folder: Path) -> CustodyLedgers:
    clock = SystemClock(ERROR_MS)
    return CustodyLedgers(folder, note_key(RELAY), clock, error_limit_ms=2 * ERROR_MS)


def is_dropped(folder: Path, origin: Origin) -> bool:
    """Whether the relay has dropped a call's ledger."""
    return _ledgers(folder).is_dropped(origin)


async def read_entries(folder: Path, origin: Origin) -> list[bytes]:
    """All entries of a call's custody ledger, after the ledger's own check of itself.

    Raises:
        BistroError: It is damaged.
    """
    ledgers = _ledgers(folder)
    if not ledgers.exists(origin):
        return []
    try:
        ledger = (await ledgers.of(origin)).ledger
        await ledger.check()
        return list(ledger.entries())
    finally:
        await ledgers.close()


@dataclass
class CustodyCheck:
    """One ledger, all its entries at hand.

    Attributes:
        folder: The relay's.
        origin: The call.
        collect_key: Signs releases.
        entries: All, in order.
        verified: Texts of receipts that were verified before, with their checkpoints.
    """

    folder: Path
    origin: Origin
    collect_key: VerifierKey
    entries: Sequence[bytes]
    verified: dict[str, Checkpoint]
    findings: Findings = field(default_factory=Findings)
    receipts: dict[Key, int] = field(default_factory=dict)
    released: dict[Key, ReleasedEntry] = field(default_factory=dict)
    holds: dict[Key, int] = field(default_factory=dict)

    def run(self, memory: RelayMemory, gone: set[Key]) -> Findings:
        """Everything that the module's table says.

        Args:
            memory: What was told.
            gone: Fragments that are not handed out any more.
        """
        self._read_entries()
        self._check_receipts(memory)
        for key in gone | {one.fragment.key for one in memory.released}:
            if key not in self.released:
                self._fault(f"{spell(key)}: gone, and its release is not on record")
        for key, entry in self.released.items():
            if entry.request is not None:
                self._check_request(key, entry.request, memory)
            elif entry.takedown is not None:
                self._check_takedown(key, entry.takedown, memory)
            elif entry.time <= self.holds[key]:
                self._fault(
                    f"{spell(key)}: expired at {entry.time}, was to be held until {self.holds[key]}"
                )
        self._count_ends()
        self.findings.counts["custody entries"] += len(self.entries)
        return self.findings

    def _fault(self, text: str) -> None:
        self.findings.faults.append(f"custody: {text}")

    def _read_entries(self) -> None:
        entries = [decode_entry(entry) for entry in self.entries]
        if any(one.time > other.time for one, other in pairwise(entries)):
            self._fault("its times go back")
        for index, entry in enumerate(entries):
            if not isinstance(entry, CustodyEntry):
                self._fault(f"entry {index} is of kind {entry.KIND}")
                continue
            self._read_entry(index, entry)

    def _read_entry(self, index: int, entry: CustodyEntry) -> None:
        key = entry.digest, entry.index
        if isinstance(entry, ReceiptEntry):
            if key in self.receipts:
                self._fault(f"{spell(key)}: has a second receipt at {index}")
            self.receipts[key] = index
            self.holds[key] = entry.hold_until
            return
        if key not in self.receipts:
            self._fault(f"{spell(key)}: entry {index} is about what is not held")
        elif key in self.released:
            self._fault(f"{spell(key)}: entry {index}, {entry.KIND}, stands behind its release")
        elif isinstance(entry, ReleasedEntry):
            self.released[key] = entry
        elif isinstance(entry, HeldEntry):
            self.findings.counts["holds prolonged"] += 1
            self.holds[key] = max(self.holds[key], entry.hold_until)

    def _check_receipts(self, memory: RelayMemory) -> None:
        checkpoints: set[Checkpoint] = set()
        for held in memory.held:
            key, data = held.fragment.key, held.fragment.data
            self.findings.counts["receipts"] += 1
            receipt = Receipt.parse(held.text)
            try:
                if held.text not in self.verified:
                    self.verified[held.text] = receipt.verify(
                        note_key(RELAY).verifier, self.origin, key[0]
                    )
            except BistroError as exc:
                self._fault(f"{spell(key)}: its receipt does not hold: {exc.message}")
                continue
            checkpoints.add(self.verified[held.text])
            entry, index = receipt.entry, receipt.index
            if (entry.index, entry.size, entry.fragment_hash) != (
                key[1],
                len(data),
                held.fragment.fragment_hash,
            ):
                self._fault(f"{spell(key)}: its receipt is for something else")
            if index >= len(self.entries):
                self._fault(f"{spell(key)}: lost, the ledger ends at {len(self.entries)}")
            elif self.entries[index] != entry.encode():
                self._fault(f"{spell(key)}: another entry stands at {index} now")
            asked_at = memory.asked_at.get(key, 0)
            if not asked_at <= entry.time <= held.asked.received_at:
                self._fault(
                    f"{spell(key)}: its time {entry.time} is not between first request "
                    f"{asked_at} and answer {held.asked.received_at}"
                )
        self._check_forks(checkpoints)

    def _check_forks(self, checkpoints: set[Checkpoint]) -> None:
        leaves = [leaf(entry) for entry in self.entries]
        roots = roots_at(leaves, {one.size for one in checkpoints if one.size <= len(leaves)})
        for one in checkpoints:
            if one.size > len(leaves):
                self._fault(f"a checkpoint of {one.size} was seen, it ends at {len(leaves)}")
            elif roots[one.size] != one.root:
                self._fault(f"fork: a checkpoint of {one.size} has another root")
        self.findings.counts["checkpoints"] += len(checkpoints)

    def _count_ends(self) -> None:
        ends = self.released.values()
        taken = sum(one.takedown is not None for one in ends)
        released = sum(one.request is not None for one in ends)
        found = self.findings.counts
        found["releases on record"] += released
        found["takedowns on record"] += taken
        found["holds ended by time"] += len(ends) - released - taken

    def _check_takedown(self, key: Key, name: bytes, memory: RelayMemory) -> None:
        """The operator's note is kept, is signed, and names the fragment."""
        if key not in memory.takedown_wanted:
            self._fault(f"{spell(key)}: taken down, and nobody ordered it")
        note = TakedownFiles(self.folder).load(name)
        if note is None:
            self._fault(f"{spell(key)}: the order to take it down is not kept")
            return
        try:
            found = Takedown.verify(note, note_key(RELAY).verifier)
        except BistroError as exc:
            self._fault(f"{spell(key)}: the order to take it down: {exc.message}")
            return
        if (found.origin, found.commitment) != (self.origin, key[0]) or not found.covers(key[1]):
            self._fault(f"{spell(key)}: was taken down by an order for something else")

    def _check_request(self, key: Key, request: bytes, memory: RelayMemory) -> None:
        """The signed request is kept, is the destination's, and names the fragment."""
        if key not in memory.release_wanted:
            self._fault(f"{spell(key)}: released, and nobody asked for it")
        path = BlobStore(self.folder / REQUESTS).path_of(request.hex())
        if not path.exists():
            self._fault(f"{spell(key)}: the request that released it is not kept")
            return
        try:
            signed = SignedRequest.decode(path.read_bytes())
            self.collect_key.verify(signed.signature_base.encode(), signed.signature)
            named = {(one.commitment, one.index) for one in decode_releases(signed.body)}
        except BistroError as exc:
            self._fault(f"{spell(key)}: the request that released it: {exc.message}")
            return
        if signed.digest != request or key not in named:
            self._fault(f"{spell(key)}: was released by a request for something else")
