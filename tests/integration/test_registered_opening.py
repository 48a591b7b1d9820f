"""Opening a call for registered filers: whose ticket it is must be whose filing it is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bistro.crypto.keyfile import filer_public
from bistro.errors import StorageError
from bistro.protocol.findings import State
from bistro.protocol.verification import verify_evidence
from bistro.wire.admission import Admission
from bistro.wire.evidence import Evidence
from bistro.wire.ticketing import Ticketed, TicketRequest
from bistro_server.store.filers import Filers
from bistro_server.store.schema import open_database
from tests.support.strategies import private_key
from tests.support.world import Filing, World, with_ticket, world


async def register(found: World, *names: str) -> None:
    """Put filers on the list, and wait until the server knows them."""
    database = await open_database(found.site.folder.database)
    keys = [filer_public(private_key(name)) for name in names]
    await Filers(database, found.site.clock).put(zip(keys, names, strict=True))
    await database.close()
    registration = found.site.server.registration
    while not all(registration.is_registered(key) for key in keys):  # noqa: ASYNC110 - polled
        await asyncio.sleep(0.005)


async def submit(found: World, filing: Filing, filer: str = "ada", **changes: Any) -> Filing:
    """Ask for the ticket of a filing in the name of a filer, stage and present it."""
    header = filing.signed.header
    fields: dict[str, Any] = {"terms_hash": header.terms_hash, "slot": header.slot, **changes}
    admission = Admission.sign(private_key(filer), commitment=filing.commitment, **fields)
    request = TicketRequest(filing.commitment, fields["terms_hash"], admission)
    answer = await found.site.api.request_ticket("spring", request)
    assert isinstance(answer, Ticketed), answer
    return await found.staged(with_ticket(filing, answer.ticket))


async def test_filings_count_under_the_name_that_asked(tmp_path: Path) -> None:
    """Another key or slot than the admission's is rejected; the rest is opened with evidence."""
    async with world(tmp_path, filers="registered") as found:
        await register(found, "ada", "bob")
        good = await submit(found, found.seal())
        second = await submit(found, found.seal(slot="second"))
        stolen = await submit(found, found.seal(slot="third"), "bob")
        moved = await submit(found, found.seal(slot="fourth"), slot="main")
        await found.collect_and_open()
        for filing in (good, second):
            assert found.outcome(filing) == ("opened", [])
            place = found.inbox / filing.commitment.hex() / "evidence.json"
            evidence = Evidence.decode(place.read_bytes())
            assert evidence.admission is not None
            report = verify_evidence(evidence, trust=found.site.terms.keys.terms)
            assert report.exit_ok, report.failures
            assert any(one.part == "admission" and one.state is State.OK for one in report.findings)
        for filing in (stolen, moved):
            assert found.outcome(filing) == ("rejected", ["admission"])


async def test_nothing_is_decided_without_the_admissions(tmp_path: Path) -> None:
    """A database that lost one is our fault: no filer is rejected for it."""
    async with world(tmp_path, filers="registered") as found:
        await register(found, "ada")
        filing = await submit(found, found.seal())
        await found.collect()
        found.pass_stage_by()
        database = await open_database(found.site.folder.database)
        kept = await database.fetch_all("SELECT * FROM admission")
        async with database.transaction() as tx:
            await tx.execute("DELETE FROM admission")
        with pytest.raises(StorageError, match="the admission of its ticket is gone"):
            await found.open()
        assert not (found.inbox / "index.jsonl").exists()
        async with database.transaction() as tx:
            await tx.execute_many("INSERT INTO admission VALUES (?, ?, ?, ?, ?)", kept)
        await database.close()
        await found.open()
        assert found.outcome(filing) == ("opened", [])
