"""Every ticket is accounted for; what nobody else answers for is said to be ours."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from bistro.errors import BistroError, StorageError
from bistro.instant import UnixMillis
from bistro.protocol.verification import verify_evidence
from bistro.wire.entry import ReceiptEntry
from bistro.wire.evidence import Evidence
from tests.integration.test_collecting import accounts
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key
from tests.support.world import Filing, World, world


async def change(found: World, sql: str, *parameters: Any) -> None:
    """Do to the database what no program of ours does."""

    def work() -> None:
        with contextlib.closing(sqlite3.connect(found.site.folder.database)) as connection:
            connection.execute(sql, parameters)
            connection.commit()

    # In a thread: the server in this process may hold it just now.
    await asyncio.to_thread(work)


async def gaps_of(found: World, filing: Filing) -> list[tuple[str, bool]]:
    gaps = (await accounts(found))[filing.commitment].gaps
    return [(gap.code, gap.is_explained) for gap in gaps]


async def opened_world(found: World) -> Filing:
    filing = await found.submit()
    await found.collect()
    found.pass_stage_by()
    await found.open()
    return filing


async def test_a_call_in_good_order_has_no_gaps(tmp_path: Path) -> None:
    """Before and after it was opened."""
    async with world(tmp_path) as found:
        filing = await opened_world(found)
        account = (await accounts(found))[filing.commitment]
        assert (account.state, account.outcome, account.gaps) == ("opened", "opened", ())


async def test_what_the_filer_has_to_do_is_said(tmp_path: Path) -> None:
    """A ticket alone is not a submission; until stage_by nothing is late."""
    async with world(tmp_path) as found:
        alone = await found.ticket(found.seal(filer="tardy"))
        assert await gaps_of(found, alone) == [("not-yet-staged", True)]
        waiting = await found.submit()
        assert {code for code, _ in await gaps_of(found, waiting)} == {"not-fetched"}


async def test_a_hold_that_ends_too_early_is_named(tmp_path: Path) -> None:
    """While there is time to fetch."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        await change(found, "UPDATE fragment SET hold_until = 1 WHERE fragment_index = 0")
        assert ("hold-ends", True) in await gaps_of(found, filing)


async def test_what_nobody_fetched_is_our_own_fault(tmp_path: Path) -> None:
    """Relays kept their promises, and repair_by has passed."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        found.pass_repair_by()
        assert ("not-collected", False) in await gaps_of(found, filing)


async def test_what_is_gone_from_our_disk_is_our_own_fault(tmp_path: Path) -> None:
    """An envelope, a filing, its evidence."""
    async with world(tmp_path) as found:
        filing = await opened_world(found)
        place = found.inbox / filing.commitment.hex()
        (place / "evidence.json").unlink()
        assert await gaps_of(found, filing) == [("evidence-missing", False)]
        shutil.rmtree(place)
        assert await gaps_of(found, filing) == [("inbox-missing", False)]
        (envelope,) = found.site.call.folder.envelopes.glob("*/*.age")
        envelope.write_bytes(b"short")
        assert ("envelope-missing", False) in await gaps_of(found, filing)


async def test_rows_and_tickets_that_do_not_match_are_told(tmp_path: Path) -> None:
    """In both directions, whichever comes first in the log; and nothing is opened over it."""
    inbox: Path | None = None
    # The serve of this world may notice, too, and then it stops.
    with contextlib.suppress(StorageError):
        async with world(tmp_path) as found:
            filings = [await found.ticket(found.seal(filer=f"f{one}")) for one in range(3)]
            await accounts(found)
            await change(
                found, "UPDATE submission SET commitment = ? WHERE log_index = 2", bytes(32)
            )
            await change(found, "UPDATE submission SET log_index = 9 WHERE log_index = 3")
            known = await accounts(found)
            assert known[bytes(32)].gaps[0].code == "not-in-log"
            assert known[filings[1].commitment].gaps[0].code == "not-in-database"
            assert not known[bytes(32)].gaps[0].is_explained
            found.pass_stage_by()
            with pytest.raises(BistroError, match=r"expected commitment|serve"):
                await found.open()
            inbox = found.inbox
    assert inbox is not None
    assert not (inbox / "index.jsonl").exists()


async def test_a_bad_receipt_does_not_spoil_the_evidence(tmp_path: Path) -> None:
    """A relay that promised too little is left out; what others proved still verifies."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        origin = found.site.call.origin.custody("anna.example")
        descriptor = filing.cut.descriptors[0]
        entry = ReceiptEntry(
            origin=origin,
            time=found.clock.now(),
            digest=filing.commitment,
            index=0,
            size=descriptor.size,
            fragment_hash=descriptor.fragment_hash,
            hold_until=UnixMillis(found.clock.now() + 1_000),
        )
        text = MemoryLedger(note_key("anna.example").renamed(origin)).promise(entry)
        await change(found, "UPDATE fragment SET receipt = ? WHERE fragment_index = 0", text)
        await found.collect()
        found.pass_stage_by()
        await found.open()
        data = (found.inbox / filing.commitment.hex() / "evidence.json").read_bytes()
        evidence = Evidence.decode(data)
        assert len(evidence.receipts) == 2
        assert verify_evidence(evidence, trust=found.site.terms.keys.terms).exit_ok


async def test_minutes_of_other_outcomes_are_never_replaced(tmp_path: Path) -> None:
    """They are written once; a database that says otherwise is what is wrong."""
    async with world(tmp_path) as found:
        await opened_world(found)
        (found.inbox / "index.jsonl").unlink()
        note = found.site.call.folder.minutes.read_bytes()
        await change(found, "UPDATE outcome SET outcome = 'rejected'")
        with pytest.raises(StorageError, match="not those of the outcomes"):
            await found.open()
        assert found.site.call.folder.minutes.read_bytes() == note
