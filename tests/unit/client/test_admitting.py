"""Submitting to a call for registered filers, with and without being one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bistro.clock import SystemClock
from bistro.errors import ConflictError, NotRegisteredError, RefusedError, SettingsError
from bistro.protocol.submission import Step, SubmissionState
from bistro.wire.admission import Admission
from bistro.wire.evidence import Evidence
from bistro.wire.ticketing import Postponed, TicketAnswers
from bistro_client import keyring
from bistro_client.home import Folder
from bistro_client.journal import read_journal
from bistro_client.verifying import Trust, verify_file
from bistro_server.store.filers import Filers
from bistro_server.store.schema import open_database
from tests.unit.client.commands import running_bistro
from tests.unit.client.worlds import World, sealed_of, world


@contextlib.asynccontextmanager
async def registered_world(root: Path, **changes: object) -> AsyncIterator[World]:
    """A world whose call is for registered filers; nobody is one yet."""
    async with world(root, changes.pop("clock", None), filers="registered", **changes) as w:  # type: ignore[arg-type]
        yield w


async def register(w: World, *keys: bytes) -> None:
    """Put keys on the list, as another process does, and wait until the server knows them."""
    database = await open_database(w.destination.folder.database)
    await Filers(database, w.destination.clock).put([(key, "Town of Aldea") for key in keys])
    await database.close()
    registration = w.destination.server.registration
    while not all(registration.is_registered(key) for key in keys):  # noqa: ASYNC110 - polled
        await asyncio.sleep(0.005)


def other_than(w: World, submission_id: str) -> Folder:
    """The folder of the other of two submissions."""
    (folder,) = [one for one in w.home.folders() if one.id != submission_id]
    return folder


async def registered_filer(w: World) -> bytes:
    """The key of this home, made and registered."""
    key = keyring.create(w.home.key_file).public
    await register(w, key)
    return key


async def test_a_registered_filer_submits_as_anybody_does(tmp_path: Path) -> None:
    """The admission is in the evidence, which verifies offline."""
    async with registered_world(tmp_path) as w:
        key = await registered_filer(w)
        done = await w.submitter().submit(w.wish(slot="lot-2"))
        assert done.state is SubmissionState.STAGED
        folder = w.only_folder()
        admission = Admission.decode(folder.admission.read_bytes())
        assert (admission.filer_key, admission.slot) == (key, "lot-2")
        evidence = Evidence.decode(folder.evidence.read_bytes())
        assert evidence.admission == admission.encode()
        trust = Trust(given=[w.destination.terms.keys.terms])
        verdict = verify_file(folder.evidence, trust)
        assert verdict.holds, verdict.report


async def test_whoever_is_not_registered_hears_what_to_send_and_goes_on_later(
    tmp_path: Path,
) -> None:
    """Nothing is lost: the sealed submission gets its ticket once the key is on the list."""
    async with registered_world(tmp_path) as w:
        with pytest.raises(NotRegisteredError) as raised:
            await w.submitter().submit(w.wish())
        key = keyring.load(w.home.key_file).public
        assert key.hex() in raised.value.hint
        assert "bistro keys show" in raised.value.hint
        journal = read_journal(w.only_folder())
        assert journal.state is SubmissionState.SEALED
        (attempt,) = journal.attempts
        assert (attempt.step, attempt.code) == (Step.TICKET, "not-registered")
        assert attempt.peer == "permits.example"
        commitment = sealed_of(journal).commitment
        await register(w, key)
        done = await w.submitter().resume(w.only_folder())
        assert done.state is SubmissionState.STAGED
        assert sealed_of(done).commitment == commitment
        assert [one.code for one in done.attempts] == ["not-registered"]


async def test_a_filer_over_the_limit_keeps_a_signed_refusal(tmp_path: Path) -> None:
    """It verifies, says whose attempt it was, and asking again brings the same."""
    async with registered_world(tmp_path, tickets_per_filer=1) as w:
        await registered_filer(w)
        done = await w.submitter().submit(w.wish())
        with pytest.raises(RefusedError, match="tickets-per-filer") as raised:
            await w.submitter().submit(w.wish(slot="second"))
        folder = other_than(w, done.id)
        assert str(folder.refusal) in raised.value.hint
        first = folder.refusal.read_bytes()
        trust = Trust(given=[w.destination.terms.keys.terms])
        for path in (folder.evidence, folder.refusal):
            verdict = verify_file(path, trust)
            assert verdict.holds, verdict.report
        assert Evidence.decode(folder.evidence.read_bytes()).admission is not None
        with pytest.raises(RefusedError, match="1 tickets"):
            await w.submitter().resume(folder)
        assert read_journal(folder).state is SubmissionState.REFUSED
        assert folder.refusal.read_bytes().splitlines()[1] == first.splitlines()[1]


@pytest.mark.parametrize("damage", ["gone", "damaged"])
async def test_an_admission_that_is_gone_is_signed_again(tmp_path: Path, damage: str) -> None:
    """The same bytes; with another key it is refused before anybody is asked."""
    async with registered_world(tmp_path) as w:
        with pytest.raises(NotRegisteredError):
            await w.submitter().submit(w.wish())
        folder = w.only_folder()
        before = folder.admission.read_bytes()
        if damage == "gone":
            folder.admission.unlink()
        else:
            folder.admission.write_bytes(before[:-1])
        mine = w.home.key_file.read_bytes()
        w.home.key_file.unlink()
        keyring.create(w.home.key_file)
        with pytest.raises(SettingsError, match="expected the key"):
            await w.submitter().resume(folder)
        w.home.key_file.write_bytes(mine)
        await register(w, keyring.load(w.home.key_file).public)
        assert (await w.submitter().resume(folder)).state is SubmissionState.STAGED
        assert folder.admission.read_bytes() == before


async def test_whose_commitment_is_taken_is_told_to_submit_again(tmp_path: Path) -> None:
    """Sealing makes another commitment; the answer is signed by nobody, so it decides nothing."""
    async with registered_world(tmp_path) as w:
        await registered_filer(w)
        conflict = TicketAnswers((Postponed("conflict"),)).encode()
        w.wire.changes["/tickets"] = lambda _: conflict
        with pytest.raises(ConflictError) as raised:
            await w.submitter().submit(w.wish())
        assert "submit your files again" in raised.value.hint
        w.wire.changes.clear()
        done = await w.submitter().resume(w.only_folder())
        assert done.state is SubmissionState.STAGED


async def test_attempts_in_vain_are_recorded_now_and_then(tmp_path: Path) -> None:
    """The same failure again and again is one entry a minute, not thousands."""
    async with registered_world(tmp_path) as w:
        await registered_filer(w)
        answers = [Postponed("overloaded", 1_000)] * 40 + [Postponed("unavailable", 1_000)]
        waiting = list(answers)

        def change(body: bytes) -> bytes:
            return TicketAnswers((waiting.pop(0),)).encode() if waiting else body

        w.wire.changes["/tickets"] = change
        done = await w.submitter(limit_ms=None).submit(w.wish())
        assert done.state is SubmissionState.STAGED
        codes = [one.code for one in done.attempts]
        assert codes[0] == "overloaded"
        assert codes[-1] == "unavailable"
        assert 2 < len(codes) < 20
        times = [one.at for one in done.attempts[:-1]]
        assert all(later - sooner >= 60_000 for sooner, later in itertools.pairwise(times))


async def test_status_shows_attempts_and_refusals(tmp_path: Path) -> None:
    """In words for whoever has to show them, and as JSON."""
    async with registered_world(
        tmp_path, clock=SystemClock(assumed_error_ms=10), tickets_per_filer=1
    ) as w:
        home = ("--home", w.home.root)
        submit = ("submit", w.files(), "--to", w.url, *home)
        ran = await running_bistro(*submit)
        assert ran.code == 3, ran.err
        ran.require_two_lines()
        assert "only registered filers get tickets" in ran.err
        await register(w, keyring.load(w.home.key_file).public)
        assert (await running_bistro("resume", *home)).code == 0
        first = w.only_folder()
        ran = await running_bistro(*submit, "--slot", "second")
        assert ran.code == 3, ran.err
        assert "all the 1 tickets" in ran.err
        second = other_than(w, first.id)
        ran = await running_bistro("status", second.id, "--offline", *home)
        assert "refused (tickets-per-filer): " in ran.out
        assert second.refusal.name in ran.out.replace("\n", "")
        ran = await running_bistro("status", first.id, "--offline", *home)
        assert "ticket permits.example: the destination gave no ticket" in ran.out
        ran = await running_bistro("status", "--offline", "--json", *home)
        found = {one["id"]: one for one in ran.document["submissions"]}
        one, two = found[first.id], found[second.id]
        assert [attempt["code"] for attempt in one["attempts"]] == ["not-registered"]
        assert (one["refused_for"], two["refused_for"]) == (None, "tickets-per-filer")
