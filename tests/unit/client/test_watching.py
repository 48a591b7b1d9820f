"""Status, repairs and what the destination publishes: verified, written down, acted upon."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bistro.crypto.keyfile import decode_note_key
from bistro.crypto.signing import SigningKey
from bistro.errors import UnavailableError, VerificationError
from bistro.protocol.submission import Submission, SubmissionState
from bistro.wire.evidence import Evidence
from bistro.wire.staging import Repair, encode_repairs
from bistro.wire.status import Outcome, Reason, Status, verify_status
from bistro.wire.ticket import Closed
from bistro_client.journal import read_journal
from bistro_client.verifying import Trust, verify_file
from tests.support.destinations import SPRING
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key
from tests.unit.client.worlds import World, sealed_of, world


def evidence(w: World) -> Evidence:
    return Evidence.decode(w.only_folder().evidence.read_bytes())


async def staged(w: World) -> Submission:
    return await w.submitter().submit(w.wish())


async def test_the_status_is_fetched_verified_and_kept(tmp_path: Path) -> None:
    """The evidence then has it, and verifies with it."""
    async with world(tmp_path) as w:
        await staged(w)
        looked = await w.submitter().look(w.only_folder())
        key = w.destination.terms.keys.status
        assert looked.status is not None
        assert verify_status(looked.status.encode(), key).state == "staged"
        assert evidence(w).status == looked.status
        trust = Trust(given=[w.destination.terms.keys.terms])
        assert verify_file(w.only_folder().evidence, trust).holds


async def test_a_tampered_status_is_not_believed(tmp_path: Path) -> None:
    """Exit 4; the journal and the evidence stay as they were."""
    async with world(tmp_path) as w:
        done = await staged(w)
        before = w.only_folder().evidence.read_bytes()
        path = f"/status/{sealed_of(done).commitment.hex()}"
        w.wire.changes[path] = lambda body: body.replace(b'"staged"', b'"opened"')
        with pytest.raises(VerificationError):
            await w.submitter().look(w.only_folder())
        assert read_journal(w.only_folder()).state is SubmissionState.STAGED
        assert w.only_folder().evidence.read_bytes() == before


async def test_a_status_of_another_submission_is_not_believed(tmp_path: Path) -> None:
    """Signed, but not about this one."""
    async with world(tmp_path) as w:
        first = await staged(w)
        note = await w.destination.api.fetch_status("spring", sealed_of(first).commitment)
        second = await w.submitter().submit(w.wish())
        w.wire.changes[f"/status/{sealed_of(second).commitment.hex()}"] = lambda _: note.encode()
        with pytest.raises(VerificationError, match="expected that of"):
            await w.submitter().look(w.home.find(second.id))


async def test_what_relays_lost_is_staged_again_elsewhere(tmp_path: Path) -> None:
    """The same bytes, at another relay; the old receipt is kept as proof; each row once."""
    async with world(tmp_path) as w:
        done = await staged(w)
        commitment = sealed_of(done).commitment
        lost = done.fragments[1]
        until = w.destination.terms.repair_by
        rows = (Repair(7, commitment, (1,), until), Repair(9, bytes(32), (0, 2), until))

        def repairs(_: bytes) -> bytes:
            after = int(w.wire.queries[-1].partition("after=")[2].partition("&")[0] or 0)
            return encode_repairs(tuple(row for row in rows if row.cursor > after))

        w.wire.changes["/repairs"] = repairs
        looked = await w.submitter().look(w.only_folder())
        assert "repair" in w.listener.keys
        assert looked.state is SubmissionState.STAGED
        assert not looked.missing
        again = looked.fragments[1]
        assert again.relay != lost.relay
        assert again.lost == (lost.receipt,)
        assert again.is_presented
        holders = w.held[commitment, 1]
        assert set(holders) == {lost.relay, again.relay}
        assert looked.repair_cursor == 9
        w.listener.notices.clear()
        await w.submitter().look(w.only_folder())
        assert "repair" not in w.listener.keys
        assert {lost.receipt, again.receipt} <= set(evidence(w).receipts)
        trust = Trust(given=[w.destination.terms.keys.terms])
        assert verify_file(w.only_folder().evidence, trust).holds


def status_key(w: World) -> SigningKey:
    """The destination's own."""
    for path in w.destination.folder.root.rglob("*status*"):
        if path.is_file() and b"PRIVATE+KEY" in path.read_bytes():
            return decode_note_key(path.read_bytes())
    raise AssertionError("no status key")


async def tell(w: World, done: Submission, state: str) -> None:
    """Let the destination say ``state``, signed."""
    note = await w.destination.api.fetch_status("spring", sealed_of(done).commitment)
    status = replace(Status.decode(note.text), state=state)
    signed = status.sign(status_key(w))
    w.wire.changes[f"/status/{sealed_of(done).commitment.hex()}"] = lambda _: signed


async def test_fragments_are_kept_until_they_are_collected(tmp_path: Path) -> None:
    """Before, somebody may ask for them again; afterwards nobody can."""
    async with world(tmp_path) as w:
        done = await staged(w)
        await w.submitter().look(w.only_folder())
        assert w.only_folder().fragment(0).exists()
        await tell(w, done, "collected")
        looked = await w.submitter().look(w.only_folder())
        assert looked.state is SubmissionState.COLLECTED
        assert not w.only_folder().fragment(0).exists()
        assert (await w.submitter().resume(w.only_folder())).state is SubmissionState.COLLECTED


async def test_the_outcome_is_told_to_who_holds_the_nonce(tmp_path: Path) -> None:
    """Fetched with the token, verified, journaled, and part of the evidence."""
    async with world(tmp_path) as w:
        done = await staged(w)
        await tell(w, done, "opened")
        commitment = sealed_of(done).commitment
        outcome = Outcome(
            origin=SPRING,
            commitment=commitment,
            state="opened",
            outcome="rejected",
            reasons=(Reason(code="malformed", text="the archive is damaged"),),
            updated_at=w.clock.now(),
        )
        token = sealed_of(done).signed.header.token.hex()
        w.wire.answers[f"/status/{commitment.hex()}/{token}"] = outcome.sign(status_key(w))
        looked = await w.submitter().look(w.only_folder())
        assert looked.outcome == "rejected"
        assert "the archive is damaged" in w.listener.text("outcome")
        assert evidence(w).outcome == looked.outcome_note

        other = replace(outcome, commitment=bytes(32)).sign(status_key(w))
        w.wire.answers[f"/status/{commitment.hex()}/{token}"] = other
        with pytest.raises(VerificationError, match="another submission"):
            await w.submitter().look(w.only_folder())


async def test_a_lapsed_submission_is_told_and_final(tmp_path: Path) -> None:
    """The filer hears it, and resuming changes nothing."""
    async with world(tmp_path) as w:
        done = await staged(w)
        await tell(w, done, "lapsed")
        looked = await w.submitter().look(w.only_folder())
        assert looked.state is SubmissionState.LAPSED
        assert (await w.submitter().resume(w.only_folder())).state is SubmissionState.LAPSED


async def test_the_closing_becomes_part_of_the_evidence(tmp_path: Path) -> None:
    """Once the destination has published it; a forged one spoils nothing."""
    async with world(tmp_path) as w:
        await staged(w)
        w.clock.advance(3_600_000 + 10_000)
        while not w.destination.server.calls.get("spring").is_closed:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        before = w.only_folder().evidence.read_bytes()
        entry = (await w.destination.api.fetch_closed("spring")).entry
        forged = MemoryLedger(note_key(str(SPRING), seed="forged")).promise(entry)
        w.wire.changes["/log/closed"] = lambda _: forged.encode()
        with pytest.raises(VerificationError, match="closed"):
            await w.submitter().look(w.only_folder())
        assert w.only_folder().evidence.read_bytes() == before
        del w.wire.changes["/log/closed"]
        looked = await w.submitter().look(w.only_folder())
        assert looked.state is SubmissionState.STAGED
        assert Closed.parse(evidence(w).closed or "").entry == entry


async def test_a_look_asks_for_nothing_that_is_known_or_cannot_be_there(tmp_path: Path) -> None:
    """Who it is and where the submission stands: two requests, however often one looks."""
    async with world(tmp_path) as w:
        done = await staged(w)
        status = f"GET /calls/spring/status/{sealed_of(done).commitment.hex()}"
        repairs = "GET /calls/spring/repairs"
        look = ["GET /.well-known/bistro.json", status]

        async def asked() -> list[str]:
            w.wire.asked.clear()
            await w.submitter().look(w.only_folder())
            return w.wire.asked

        assert await asked() == [*look, repairs]  # the first status that it sees is new
        assert await asked() == look
        w.clock.advance(3_600_000 + 10_000)
        while not w.destination.server.calls.get("spring").is_closed:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert await asked() == [*look, "GET /calls/spring/log/closed"]
        assert await asked() == look


async def test_a_damaged_copy_of_the_terms_is_fetched_again(tmp_path: Path) -> None:
    """What is kept saves a request; it is no reason to fail."""
    async with world(tmp_path) as w:
        await staged(w)
        path = w.only_folder().terms_version(1)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        await w.submitter().look(w.only_folder())
        assert "GET /calls/spring/terms" in w.wire.asked
        assert path.read_bytes() == whole


async def test_looking_without_a_ticket_asks_nobody(tmp_path: Path) -> None:
    """There is nothing to look at."""
    async with world(tmp_path) as w:
        w.wire.changes["/tickets"] = lambda _: b"\xc1"
        with pytest.raises(UnavailableError):
            await w.submitter(limit_ms=0).submit(w.wish())
        asked = len(w.wire.asked)
        looked = await w.submitter().look(w.only_folder())
        assert looked.state is SubmissionState.SEALED
        assert len(w.wire.asked) == asked
