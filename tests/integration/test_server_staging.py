"""Receipts, statuses, lapsing and the control socket of a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bistro.api import routes
from bistro.crypto.signing import sign_note
from bistro.errors import NotOpenError, UnavailableError, UnknownObjectError
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.wire.claim import Claim
from bistro.wire.entry import ClosedEntry, TermsEntry, TicketEntry
from bistro.wire.staging import Failure, PresentedReceipt, ReceiptAccepted
from bistro.wire.status import Status, verify_status
from bistro_server.services.calls import CallRegistry
from bistro_server.services.control import ControlClient, DirectLog, open_log
from bistro_server.services.folder import ServerFolder
from bistro_server.store.schema import open_database
from bistro_server.store.status_files import StatusFiles
from bistro_server.store.submissions import Submissions, advance
from tests.support.clocks import ManualClock
from tests.support.destinations import (
    HOUR_MS,
    Destination,
    Envelope,
    destination,
    make_call,
    make_server,
    receipt_of,
    serving_folder,
    ticket_for,
)
from tests.support.strategies import note_key


async def presented(
    site: Destination, claim: Claim, relay: str = "anna.example"
) -> PresentedReceipt:
    """A claim with a receipt that the relay dates now."""
    folder = site.folder.root.parent / "relays"
    return PresentedReceipt(claim.encode(), await receipt_of(folder, site.clock, claim, relay))


async def status_of(site: Destination, envelope: Envelope, state: str) -> Status:
    """The verified status, once it says ``state``."""
    while True:
        try:
            note = await site.api.fetch_status("spring", envelope.commitment)
        except UnknownObjectError:
            pass
        else:
            status = verify_status(note.encode(), site.terms.keys.status)
            if status.state == state:
                return status
        await asyncio.sleep(0.01)


async def until_known(site: Destination, envelope: Envelope) -> None:
    """Wait until the log has been read as far as the ticket: a ticket alone has no status."""
    database = await open_database(site.folder.database)
    submissions = Submissions(database, StatusFiles(site.folder.status), site.clock)
    try:
        while not await submissions.count_by_state("spring"):  # noqa: ASYNC110 - its own part
            await asyncio.sleep(0.01)
        await submissions.get("spring", envelope.commitment)
    finally:
        await database.close()


async def test_k_receipts_stage_a_submission(tmp_path: Path) -> None:
    """The k-th distinct fragment stages it, for ever; repeating receipts changes nothing."""
    async with destination(tmp_path / "d") as site:
        envelope = Envelope.numbered(1)
        ticket = await ticket_for(site, envelope)
        claims = [envelope.claim(site.call.origin, ticket, index) for index in range(3)]
        first = await presented(site, claims[0])
        other = await presented(site, claims[0], "bert.example")
        with pytest.raises(UnknownObjectError):
            await site.api.fetch_status("spring", envelope.commitment)
        assert await site.api.present_receipts("spring", [first]) == (ReceiptAccepted(1, False),)
        assert await site.api.present_receipts("spring", [first, other]) == (
            ReceiptAccepted(1, False),
            ReceiptAccepted(1, False),
        )
        second = await presented(site, claims[2], "cora.example")
        assert await site.api.present_receipts("spring", [second]) == (ReceiptAccepted(2, True),)
        status = await status_of(site, envelope, "staged")
        assert (status.fragments, status.needed, status.index) == ((0, 2), 2, 1)


async def test_a_bad_item_does_not_spoil_the_others(tmp_path: Path) -> None:
    """Each is answered for itself: nonsense, a stranger's receipt, another fragment, a good one."""
    async with destination(tmp_path / "d") as site:
        envelope = Envelope.numbered(1)
        ticket = await ticket_for(site, envelope)
        claim, claim_1 = (envelope.claim(site.call.origin, ticket, index) for index in (0, 1))
        folder, clock = tmp_path / "relays", site.clock
        good = await presented(site, claim)
        stranger = await receipt_of(folder, clock, claim, "mallory.example")
        forged = await receipt_of(
            tmp_path / "forged", clock, claim, "bert.example", key=note_key("mallory.example")
        )
        smaller = await receipt_of(tmp_path / "smaller", clock, claim, "cora.example", size=1)
        answers = await site.api.present_receipts(
            "spring",
            [
                PresentedReceipt(b"nonsense", good.receipt),
                PresentedReceipt(good.claim, "nonsense"),
                PresentedReceipt(good.claim, stranger),
                PresentedReceipt(good.claim, forged),
                PresentedReceipt(good.claim, smaller),
                PresentedReceipt(claim_1.encode(), good.receipt),
                good,
            ],
        )
        codes = [answer.code for answer in answers if isinstance(answer, Failure)]
        assert codes == ["malformed", "malformed", *["not-verified"] * 4]
        assert answers[-1] == ReceiptAccepted(1, False)


async def test_a_claim_of_another_call_or_without_a_ticket_of_ours_is_not_believed(
    tmp_path: Path,
) -> None:
    """The commitment in the ticket must be the one that claim and fragments lead to."""
    async with destination(tmp_path / "d") as site:
        ticket = await ticket_for(site, Envelope.numbered(1))
        for envelope in (Envelope.numbered(2), Envelope.numbered(1, k=1, n=3)):
            claim = envelope.claim(site.call.origin, ticket, 0)
            item = PresentedReceipt(claim.encode(), "receipt")
            (answer,) = await site.api.present_receipts("spring", [item])
            assert isinstance(answer, Failure)
            assert answer.code == "not-verified"


async def test_what_is_not_staged_in_time_lapses(tmp_path: Path) -> None:
    """After ``stage_by`` what is staged stays; late receipts are kept and change nothing."""
    async with destination(tmp_path / "d") as site:
        envelopes = [Envelope.numbered(number) for number in range(2)]
        tickets = [await ticket_for(site, envelope) for envelope in envelopes]
        items = [
            await presented(site, envelopes[0].claim(site.call.origin, tickets[0], index), relay)
            for index, relay in enumerate(("anna.example", "bert.example"))
        ]
        await site.api.present_receipts("spring", items)
        site.clock.advance(2 * HOUR_MS + 1)
        await status_of(site, envelopes[1], "lapsed")
        await status_of(site, envelopes[0], "staged")
        late = [
            await presented(site, envelopes[1].claim(site.call.origin, tickets[1], index), relay)
            for index, relay in enumerate(("anna.example", "bert.example"))
        ]
        answers = await site.api.present_receipts("spring", late)
        assert answers == (ReceiptAccepted(1, False), ReceiptAccepted(2, False))
        await status_of(site, envelopes[1], "lapsed")


async def test_unknown_statuses_and_tokens_look_the_same(tmp_path: Path) -> None:
    """Who guesses learns nothing."""
    async with destination(tmp_path / "d") as site:
        envelope = Envelope.numbered(1)
        await ticket_for(site, envelope)
        files = StatusFiles(site.folder.status)
        token = b"\7" * 32
        note = sign_note(b"outcome\n", note_key("any"))
        files.write_outcome("spring", envelope.commitment, token=token, note=note)
        found = await site.api.fetch_outcome("spring", envelope.commitment, token)
        assert found.encode() == note
        messages = set()
        for commitment, guess in ((envelope.commitment, b"\0" * 32), (b"\0" * 32, token)):
            with pytest.raises(UnknownObjectError) as caught:
                await site.api.fetch_outcome("spring", commitment, guess)
            messages.add(caught.value.message)
        assert len(messages) == 1
        url = routes.STATUS.url(site.base_url, call="spring", commitment="..")
        with pytest.raises(UnknownObjectError):
            await site.session.ask("GET", url, limit=10_000)


async def test_repairs_are_listed_by_cursor(tmp_path: Path) -> None:
    """Rows of the collector appear until they are removed; a new row has a higher cursor."""
    async with destination(tmp_path / "d") as site:
        envelope = Envelope.numbered(1)
        await ticket_for(site, envelope)
        await until_known(site, envelope)
        assert await site.api.fetch_repairs("spring") == ()
        database = await open_database(site.folder.database)
        sql = "INSERT OR REPLACE INTO repair (submission, indexes, asked_at) VALUES (1, ?, 0)"
        for indexes in (b"\0", b"\0\2"):
            async with database.transaction() as tx:
                await tx.execute(sql, (indexes,))
        await database.close()
        (repair,) = await site.api.fetch_repairs("spring")
        assert (repair.commitment, repair.indexes) == (envelope.commitment, (0, 2))
        assert (repair.cursor, repair.until) == (2, site.terms.repair_by)
        assert await site.api.fetch_repairs("spring", after=repair.cursor) == ()


async def exercise(folder: ServerFolder, clock: ManualClock, *, call_id: str = "spring") -> type:
    """What another process does with a log; returns how it reached it."""
    call = CallRegistry(folder).load(call_id)
    async with open_log(folder, call, clock, error_limit_ms=100) as log:
        assert await log.find_closed() is None
        assert await log.find_opening() is None
        with pytest.raises(NotOpenError):
            await log.append_closed()
        with pytest.raises(NotOpenError):
            await log.append_opening()
        clock.advance(HOUR_MS + 2_000)
        closed = await log.append_closed()
        assert (await log.append_closed()).entry == closed.entry
        found_closed = await log.find_closed()
        assert found_closed is not None
        assert found_closed.entry == closed.entry
        opening = await log.append_opening()
        opening.verify(call.log_key, call.origin, call.terms.hash)
        entries = [entry async for _, entry in log.entries()]
        assert isinstance(entries[0], TermsEntry)
        assert isinstance(entries[closed.index], ClosedEntry)
        rest = [index async for index, _ in log.entries(closed.index)]
        assert rest == list(range(closed.index, len(entries)))
        terms = await log.find_terms(call.terms.hash)
        assert terms is not None
        assert terms.index == 0
        for index, entry in enumerate(entries):
            if isinstance(entry, TicketEntry):
                found = await log.find_ticket(entry.digest)
                assert found is not None
                assert found.index == index
        assert await log.find_ticket(b"\0" * 32) is None
        assert (await log.prove(0)).startswith("c2sp.org/tlog-proof@v1\n")
        with pytest.raises(UnknownObjectError):
            await log.prove(len(entries))
        return type(log)


async def test_other_processes_reach_the_log_through_the_socket(tmp_path: Path) -> None:
    """While ``serve`` runs it writes for others."""
    async with destination(tmp_path / "d") as site:
        await site.api.request_tickets("spring", [site.request(n) for n in range(300)])
        assert await exercise(site.folder, site.clock) is ControlClient
        assert (await site.api.fetch_opening("spring")).index == 302
        mode = site.folder.control_socket.stat().st_mode & 0o777
        assert mode == 0o600


async def test_without_serve_whoever_comes_writes_itself(tmp_path: Path) -> None:
    """The same happens with the ledger's lock taken; a second writer is kept out meanwhile."""
    folder, _ = make_server(tmp_path / "d")
    clock = ManualClock()
    call = await make_call(folder, clock)
    assert await exercise(folder, clock) is DirectLog
    async with open_log(folder, call, clock, error_limit_ms=100):
        with pytest.raises(UnavailableError, match="held by a process"):
            async with open_log(folder, call, clock, error_limit_ms=100):
                pass


async def test_serve_waits_for_a_call_that_another_process_holds(tmp_path: Path) -> None:
    """The call answers 503 until the other has finished, and then serves by itself."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    call = await make_call(folder, clock)
    async with Session() as session:
        holder = open_log(folder, call, clock, error_limit_ms=100)
        await holder.__aenter__()
        async with serving_folder(folder, settings, clock) as (server, _):
            api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
            with pytest.raises(UnavailableError):
                await api.fetch_terms("spring")
            await holder.__aexit__(None, None, None)
            async with asyncio.timeout(5):
                while True:
                    try:
                        assert (await api.fetch_terms("spring")).signed.hash == call.terms.hash
                        break
                    except UnavailableError:
                        await asyncio.sleep(0.01)


async def test_a_status_on_disk_never_runs_ahead_of_the_database(tmp_path: Path) -> None:
    """What was marked and not written is written by the next round, also after a restart."""
    async with destination(tmp_path / "d") as site:
        envelope = Envelope.numbered(1)
        await ticket_for(site, envelope)
        await until_known(site, envelope)
        database = await open_database(site.folder.database)
        submissions = Submissions(database, StatusFiles(site.folder.status), site.clock)
        found = await submissions.get("spring", envelope.commitment)
        async with database.transaction() as tx:
            assert await advance(tx, found.id, "collected", now=site.clock.now())
        await database.close()
        status = await status_of(site, envelope, "collected")
        assert status.updated_at == site.clock.now()
