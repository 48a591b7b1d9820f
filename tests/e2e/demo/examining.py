"""Examines what happened: each promise against files, signatures and the programs' own answers.

Nothing here believes the scenes: tickets are verified with the destination's key, bytes are
compared by their hashes, relays are asked for what they signed for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from bistro.crypto.keyfile import decode_filer_key, filer_public
from bistro.errors import BistroError
from bistro.protocol.deadline import latest_on_time
from bistro.wire.minutes import verify_minutes
from bistro.wire.receipt import Receipt
from bistro.wire.terms import Terms
from bistro_client.home import Home
from tests.e2e.demo.auditing import audit, held
from tests.e2e.demo.cast import Finished
from tests.e2e.demo.companions import PerformanceError
from tests.e2e.demo.drawing import size_text
from tests.e2e.demo.filings import digests
from tests.e2e.demo.promises import Promise
from tests.e2e.demo.searching import needles_for, search, size_of
from tests.e2e.demo.stage import CALL, Stage
from tests.e2e.demo.story import FilingStory, Story

_SIGKILL: Final = -9


@dataclass(slots=True)
class Examiner:
    """Examines the promises and writes the verdicts into the story."""

    stage: Stage
    story: Story

    def sources(self) -> None:
        """Be sure that the search finds what it looks for, where it is."""
        for one in self.story.filings:
            if not search(one.source, needles_for(())):
                raise PerformanceError(f"the search does not find the marks in {one.source}")

    async def relays_that_hold(self) -> None:
        """After the rush and before collection, when relays hold all that they will ever hold."""
        self._staged()
        await self._killed()
        await self.relays_unreadable("before collection")

    async def relays_unreadable(self, when: str) -> None:
        """Search all that relays keep, and all that they said."""
        needles = needles_for(self._filer_keys())
        faults: list[str] = []
        size = 0
        for site in self.stage.relays:
            for folder in (site.root, site.daemon.log):
                size += size_of(folder)
                found = await asyncio.to_thread(search, folder, needles)
                faults += [f"{site.name}: {sentence}" for sentence in found]
        detail = f"{len(needles)} marks, names and keys in {size_text(size)} {when}"
        self.story.verdicts.examined(Promise.UNREADABLE, faults, detail)

    async def collected(self) -> None:
        """After collection: envelopes are here, relays hold none."""
        faults = [
            f"{one.label}: not collected" for one in self.story.on_time if not one.collected_at
        ]
        for site in self.stage.relays:
            count = await held(self.stage, site)
            if count:
                faults.append(f"{site.name}: still holds {count} fragments")
        detail = f"{len(self.story.on_time)} envelopes; relays hold nothing any more"
        self.story.verdicts.examined(Promise.COLLECTED, faults, detail)

    async def outcome(self) -> None:
        """After opening: everything else, but evidence."""
        self._tickets()
        await asyncio.to_thread(self._opened)
        self._minutes()
        await self._reconciled()

    async def daemons(self) -> None:
        """Stop everything and see that it was still there to be stopped."""
        faults: list[str] = []
        kill = self.story.kill
        for name, code in (await self.stage.lower_curtain()).items():
            if code is None:
                faults.append(f"{name}: had stopped by itself")
            elif code:
                faults.append(f"{name}: ended with exit code {code}")
        for site in self.stage.relays:
            expected = [_SIGKILL] if kill is not None and site.name == kill.relay else []
            if site.daemon.exits[:-1] != expected:
                faults.append(f"{site.name}: ended before with {site.daemon.exits[:-1]}")
        self.story.verdicts.examined(Promise.DAEMONS, faults, "4 daemons ended by SIGTERM with 0")

    @property
    def _terms(self) -> Terms:
        if self.story.terms is None:
            raise PerformanceError("there is no call")
        return self.story.terms

    def _filer_keys(self) -> list[bytes]:
        homes = sorted({one.home for one in self.story.filings})
        files = [Home(home).key_file for home in homes]
        return [filer_public(decode_filer_key(x.read_bytes())) for x in files if x.exists()]

    def _tickets(self) -> None:
        """Every ticket by the log's key, for this commitment, on time."""
        terms = self._terms
        last = latest_on_time(terms)
        faults: list[str] = []
        spare: list[int] = []
        for one in self.story.on_time:
            if one.ticket is None:
                faults.append(f"{one.label}: no ticket; {one.said[-300:]}")
                continue
            spare.append(last - one.ticket.time)
            if one.ticket.time > last:
                faults.append(f"{one.label}: its ticket is {-spare[-1]} ms after the deadline")
            try:
                one.ticket.verify(terms.keys.log, terms.origin, bytes.fromhex(one.commitment))
            except BistroError as exc:
                faults.append(f"{one.label}: {exc}")
        detail = f"{len(spare)} tickets, the last {min(spare, default=0) / 1000:.1f} s before"
        self.story.verdicts.examined(Promise.TICKETS, faults, f"{detail} the deadline")

    def _staged(self) -> None:
        """Receipts of k distinct fragments of every filing, by relays of the terms."""
        terms = self._terms
        faults: list[str] = []
        for one in self.story.on_time:
            faults += [f"{one.label}: {fault}" for fault in _receipt_faults(one, terms)]
            indexes = {receipt.fragment_index for receipt in one.receipts}
            if len(indexes) < terms.spread.k or one.exits[-1] != 0:
                said = one.said[-300:]
                faults.append(f"{one.label}: {len(indexes)} receipts, exit {one.exits}: {said}")
        count = sum(len(one.receipts) for one in self.story.on_time)
        retried = sum(one.attempts > 0 for one in self.story.on_time)
        detail = f"{count} receipts; filings that met a failing relay and went on: {retried}"
        self.story.verdicts.examined(Promise.STAGED, faults, detail)

    async def _killed(self) -> None:
        """The killed relay still has every fragment that it ever signed for, byte for byte."""
        kill = self.story.kill
        if kill is None:
            return
        site = next(site for site in self.stage.relays if site.name == kill.relay)
        faults = [] if kill.size else ["it was not killed in the middle of an upload"]
        if site.daemon.exits != [_SIGKILL]:
            faults.append(f"expected an end by signal 9, found exit codes {site.daemon.exits}")
        after = site.gate.requests[kill.requests_seen :]
        kill.resumed_from = next(
            (x.offset for x in after if (x.method, x.path) == ("PATCH", kill.path)), None
        )
        receipts = self._all_receipts(site.name)
        is_again_here = any(x.entry.size == kill.size and x.time > kill.at for x in receipts)
        if kill.resumed_from is None and is_again_here:
            kill.resumed_from = 0  # as another upload
        kill.receipts_before = sum(receipt.time <= kill.at for receipt in receipts)
        if not kill.receipts_before:
            faults.append("it had signed for nothing when it was killed")
        faults += await audit(self.stage, site, receipts)
        size = sum(receipt.entry.size for receipt in receipts)
        detail = (
            f"{len(receipts)} fragments, {size_text(size)}, fetched and compared, "
            f"{kill.receipts_before} of them signed for before the kill"
        )
        self.story.verdicts.examined(Promise.KILLED, faults, detail)

    def _all_receipts(self, relay: str) -> list[Receipt]:
        """What a relay ever signed for: also receipts that the client replaced later."""
        folders = [one.folder for one in self.story.on_time if one.folder is not None]
        paths = [x for folder in folders for x in folder.receipts.glob(f"*-{relay}.receipt")]
        return [Receipt.parse(path.read_bytes()) for path in sorted(paths)]

    def _opened(self) -> None:
        faults: list[str] = []
        for one in self.story.on_time:
            if one.inbox is None:
                faults.append(f"{one.label}: not opened")
                continue
            one.is_identical = digests(one.inbox / "files") == digests(one.source)
            if not one.is_identical:
                faults.append(f"{one.label}: differs from its source")
        expected = {one.commitment for one in self.story.on_time}
        found = {path.name for path in self.stage.call.inbox.iterdir() if path.is_dir()}
        faults += [f"{name}: was opened and nobody filed it" for name in found - expected]
        count = sum(len(one.filing.files) for one in self.story.on_time)
        detail = f"{count} files, {size_text(self.story.size)}, compared by SHA-256"
        self.story.verdicts.examined(Promise.OPENED, faults, detail)

    def _minutes(self) -> None:
        terms = self._terms
        faults = [
            f"{one.label}: its filer knows the outcome {one.outcome}, expected opened"
            for one in self.story.on_time
            if one.outcome != "opened"
        ]
        detail = ""
        try:
            minutes = verify_minutes(self.stage.call.minutes.read_bytes(), terms.keys.status)
            minutes.verify_checkpoint(terms.keys.log)
            self.story.opened_at = minutes.opened_at
            detail = f"{minutes.count} commitments counted"
            if minutes.opened_at <= latest_on_time(terms):
                faults.append("the minutes say that the call was opened before its deadline")
            if minutes.count != len(self.story.on_time):
                faults.append(f"expected {len(self.story.on_time)} tickets, found {detail}")
        except (BistroError, OSError) as exc:
            faults.append(f"minutes: {exc}")
        self.story.verdicts.examined(Promise.MINUTES, faults, detail)

    async def _reconciled(self) -> None:
        finished = await self.stage.cast.run(
            *("bistro-server", "reconcile", f"--call={CALL}", "--json"),
            f"--dir={self.stage.destination.root}",
        )
        self.story.verdicts.examined(
            Promise.RECONCILED,
            reconcile_faults(
                finished, {one.commitment for one in self.story.on_time if one.commitment}
            ),
            "`bistro-server reconcile` lists every ticket as opened, without gaps",
        )


def _receipt_faults(one: FilingStory, terms: Terms) -> list[str]:
    faults: list[str] = []
    for receipt in one.receipts:
        relay = terms.relay(receipt.relay)
        if relay is None:
            faults.append(f"a receipt of {receipt.relay}, which is not in the terms")
            continue
        try:
            receipt.verify(relay.vkey, terms.origin, bytes.fromhex(one.commitment))
        except BistroError as exc:
            faults.append(str(exc))
    return faults


def reconcile_faults(finished: Finished, expected: set[str]) -> list[str]:
    """What is wrong with the answer of ``bistro-server reconcile --json``."""
    found = finished.document.get("tickets")
    if finished.exit_code != 0 or not isinstance(found, list):
        return [f"exit code {finished.exit_code}: {finished.stderr or finished.stdout}"]
    tickets = {str(one["commitment"]): one for one in found}
    faults = [f"{name}: a ticket that no filer has" for name in tickets.keys() - expected]
    faults += [f"{name}: a filer's ticket is not listed" for name in expected - tickets.keys()]
    for name, one in tickets.items():
        if one["state"] != "opened" or one["outcome"] != "opened" or one["gaps"]:
            faults.append(f"{name}: {one['state']}, {one['outcome']}, gaps {one['gaps']}")
    return faults
