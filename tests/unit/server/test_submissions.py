"""Submissions only go forward, and their signed status never says what is not durable."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import ConflictError, StorageError, UnknownObjectError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.storage.database import Database
from bistro.wire.status import verify_status
from bistro_server.store.schema import open_database
from bistro_server.store.status_files import StatusFiles
from bistro_server.store.submissions import (
    KnownFragment,
    Submissions,
    Ticketed,
    add_fragment,
    add_ticket,
    advance,
    advance_if_staged,
)
from tests.support.clocks import NOON, ManualClock
from tests.support.destinations import commitment
from tests.support.strategies import note_key

ORIGIN = Origin("permits.example", "spring")
KEY = note_key(ORIGIN.status)
STATES = ["staged", "collected", "opened", "lapsed"]
STAGE_BY = UnixMillis(NOON + 1_000)


def ticket(number: int) -> Ticketed:
    return Ticketed(commitment=commitment(number), log_index=number + 1, ticketed_at=NOON)


def fragment(index: int, relay: str = "anna.example", *, dated_at: int = NOON) -> KnownFragment:
    return KnownFragment(
        index=index,
        relay=relay,
        claim=b"claim",
        layout=b"layout",
        needed=2,
        header_leaf=b"\0" * 32,
        dated_at=UnixMillis(dated_at),
        hold_until=UnixMillis(NOON + 10_000),
    )


async def move(submissions: Submissions, number: int, state: str, *, at: UnixMillis = NOON) -> bool:
    """As the other processes do."""
    found = await submissions.get("spring", commitment(number))
    async with submissions.database.transaction() as tx:
        return await advance(tx, found.id, state, now=at)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = await open_database(tmp_path / "server.sqlite3")
    yield found
    await found.close()


@pytest.fixture
def submissions(database: Database, tmp_path: Path, clock: ManualClock) -> Submissions:
    return Submissions(database, StatusFiles(tmp_path / "status"), clock)


async def test_a_ticket_becomes_one_submission(submissions: Submissions) -> None:
    """Whoever learns of it first, and however often it is read again."""
    async with submissions.database.transaction() as tx:
        first = await add_ticket(tx, "spring", ticket(1), now=NOON)
        assert await add_ticket(tx, "spring", ticket(1), now=NOON) == first
    await submissions.record_tickets("spring", [ticket(1), ticket(2)], tailed=3)
    await submissions.record_tickets("spring", [ticket(1)], tailed=2)
    assert await submissions.tailed("spring") == 3
    assert await submissions.tailed("autumn") == 0
    found = [await submissions.get("spring", commitment(number)) for number in (1, 2)]
    assert [one.log_index for one in found] == [2, 3]
    assert await submissions.count_by_state("spring") == {"ticketed": 2}


async def test_a_database_that_does_not_match_its_log_is_told(submissions: Submissions) -> None:
    """What is expected, what is there, and what to do; and nothing is changed."""
    await submissions.record_tickets("spring", [ticket(1), ticket(2)], tailed=3)
    other = Ticketed(commitment=commitment(9), log_index=ticket(2).log_index, ticketed_at=NOON)
    moved = Ticketed(commitment=commitment(1), log_index=7, ticketed_at=NOON)
    both = f"expected commitment {commitment(9).hex()} at entry 3, found {commitment(2).hex()}"
    with pytest.raises(StorageError, match=both) as told:
        await submissions.record_tickets("spring", [ticket(3), other], tailed=5)
    assert "restore" in told.value.hint
    with pytest.raises(StorageError, match=both):
        async with submissions.database.transaction() as tx:
            await add_ticket(tx, "spring", other, now=NOON)
    with pytest.raises(StorageError, match="at entry 7, found this commitment at entry 2"):
        async with submissions.database.transaction() as tx:
            await add_ticket(tx, "spring", moved, now=NOON)
    assert await submissions.tailed("spring") == 3
    assert await submissions.count_by_state("spring") == {"ticketed": 2}


@given(reports=st.lists(st.sampled_from(STATES), max_size=8))
async def test_states_only_go_forward(
    reports: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is reported, repeated or late, the state never goes back; lapsed is an end."""
    root = tmp_path_factory.mktemp("d")
    database = await open_database(root / "server.sqlite3")
    submissions = Submissions(database, StatusFiles(root / "status"), ManualClock())
    try:
        await submissions.record_tickets("spring", [ticket(1)], tailed=2)
        state = "ticketed"
        order = ["ticketed", "staged", "collected", "opened"]
        for reported in reports:
            changed = await move(submissions, 1, reported)
            if reported == "lapsed":
                expected = "lapsed" if state == "ticketed" else state
            elif state == "lapsed":
                expected = state
            else:
                expected = max(state, reported, key=order.index)
            assert changed == (expected != state)
            state = expected
            assert (await submissions.get("spring", commitment(1))).state == state
    finally:
        await database.close()


async def test_nobody_is_told_about_an_unknown_submission(submissions: Submissions) -> None:
    """It is neither found nor moved forward."""
    with pytest.raises(UnknownObjectError):
        await submissions.get("spring", commitment(1))
    async with submissions.database.transaction() as tx:
        with pytest.raises(UnknownObjectError):
            await advance_if_staged(tx, 7, stage_by=STAGE_BY, now=NOON)


@pytest.mark.parametrize(
    ("fragments", "seen_at", "is_staged"),
    [
        ([fragment(0), fragment(1)], STAGE_BY, True),
        ([fragment(0), fragment(1)], STAGE_BY + 1, False),
        ([fragment(0), fragment(1, dated_at=STAGE_BY + 1)], NOON, False),
        ([fragment(0), fragment(0, "bert.example")], NOON, False),
        ([fragment(0), fragment(0), fragment(2)], NOON, True),
    ],
)
async def test_staged_means_k_distinct_fragments_dated_and_seen_in_time(
    submissions: Submissions, fragments: list[KnownFragment], seen_at: int, *, is_staged: bool
) -> None:
    """Late by either clock, or twice the same fragment, does not count."""
    async with submissions.database.transaction() as tx:
        found = await add_ticket(tx, "spring", ticket(1), now=NOON)
        for one in fragments:
            await add_fragment(tx, found, one, now=UnixMillis(seen_at))
        staged = await advance_if_staged(tx, found, stage_by=STAGE_BY, now=UnixMillis(seen_at))
    assert staged == is_staged


async def test_a_fragment_seen_again_keeps_its_earliest_times(submissions: Submissions) -> None:
    """And its receipt; the hold grows, a lost source is announced again, a wrong one is not."""
    async with submissions.database.transaction() as tx:
        found = await add_ticket(tx, "spring", ticket(1), now=NOON)
        for index, fate in ((0, "lost"), (1, "wrong")):
            await add_fragment(tx, found, fragment(index), now=NOON)
            await tx.execute("UPDATE fragment SET fate = ? WHERE fragment_index = ?", (fate, index))
            await add_fragment(
                tx, found, fragment(index, dated_at=NOON + 5), now=UnixMillis(NOON + 9)
            )
        rows = await tx.fetch_all("SELECT dated_at, seen_at, fate FROM fragment")
    assert [tuple(row) for row in rows] == [(NOON, NOON, "announced"), (NOON, NOON, "wrong")]


async def test_nothing_lapses_before_stage_by(submissions: Submissions, clock: ManualClock) -> None:
    """At ``stage_by`` itself there is still time; after it only the ticketed lapse."""
    await submissions.record_tickets("spring", [ticket(1), ticket(2)], tailed=3)
    await move(submissions, 2, "staged")
    clock.advance(1_000)
    with pytest.raises(ConflictError):
        await submissions.lapse("spring", stage_by=STAGE_BY)
    clock.advance(1)
    assert await submissions.lapse("spring", stage_by=STAGE_BY) == 1
    assert await submissions.lapse("spring", stage_by=STAGE_BY) == 0
    assert await submissions.count_by_state("spring") == {"lapsed": 1, "staged": 1}


async def test_statuses_are_published_once_and_again_after_a_change(
    submissions: Submissions, clock: ManualClock
) -> None:
    """The note is signed and says what the row says."""
    await submissions.record_tickets("spring", [ticket(1)], tailed=2)
    await move(submissions, 1, "staged")
    assert await submissions.publish(ORIGIN, KEY) == 1
    assert await submissions.publish(ORIGIN, KEY) == 0
    clock.advance(5)
    await move(submissions, 1, "collected", at=clock.now())
    assert await submissions.publish(ORIGIN, KEY) == 1
    note = submissions.statuses.read_status("spring", commitment(1))
    status = verify_status(note, KEY.verifier)
    assert (status.state, status.index, status.updated_at) == ("collected", 2, NOON + 5)


async def test_a_ticket_alone_has_no_status(submissions: Submissions, clock: ManualClock) -> None:
    """Nobody would learn anything from it; the first fragment, or the end, makes one."""
    await submissions.record_tickets("spring", [ticket(1), ticket(2), ticket(3)], tailed=4)
    assert await submissions.publish(ORIGIN, KEY) == 0
    with pytest.raises(UnknownObjectError):
        submissions.statuses.read_status("spring", commitment(1))
    async with submissions.database.transaction() as tx:
        # As where a receipt is presented before the log was read so far.
        for number in (1, 4):
            found = await add_ticket(tx, "spring", ticket(number), now=NOON)
            await add_fragment(tx, found, fragment(0), now=NOON)
    assert await submissions.publish(ORIGIN, KEY) == 2
    for number in (1, 4):
        note = submissions.statuses.read_status("spring", commitment(number))
        assert verify_status(note, KEY.verifier).state == "ticketed"
    clock.advance(1_001)
    assert await submissions.lapse("spring", stage_by=STAGE_BY) == 4
    assert await submissions.publish(ORIGIN, KEY) == 4
    note = submissions.statuses.read_status("spring", commitment(3))
    assert verify_status(note, KEY.verifier).state == "lapsed"


async def test_a_status_that_could_not_be_written_stays_marked(
    submissions: Submissions, tmp_path: Path
) -> None:
    """The next round writes it."""
    await submissions.record_tickets("spring", [ticket(1)], tailed=2)
    await move(submissions, 1, "staged")
    (tmp_path / "status").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError):
        await submissions.publish(ORIGIN, KEY)
    (tmp_path / "status").unlink()
    assert await submissions.publish(ORIGIN, KEY) == 1


async def test_a_change_that_is_rolled_back_is_never_published(submissions: Submissions) -> None:
    """A status says only what is committed."""
    await submissions.record_tickets("spring", [ticket(1)], tailed=2)
    await move(submissions, 1, "staged")
    await submissions.publish(ORIGIN, KEY)

    async def change_mind() -> None:
        async with submissions.database.transaction() as tx:
            assert await advance(tx, 1, "opened", now=NOON)
            raise ConflictError("changed its mind")

    with pytest.raises(ConflictError):
        await change_mind()
    assert await submissions.publish(ORIGIN, KEY) == 0
    note = submissions.statuses.read_status("spring", commitment(1))
    assert verify_status(note, KEY.verifier).state == "staged"


async def test_two_processes_share_the_database(tmp_path: Path) -> None:
    """What one commits the other reads; the schema is made once."""
    path = tmp_path / "server.sqlite3"
    first, second = await open_database(path), await open_database(path)
    try:
        for database, number in ((first, 1), (second, 2)):
            one = Submissions(database, StatusFiles(tmp_path / "status"), ManualClock())
            await one.record_tickets("spring", [ticket(number)], tailed=number + 1)
        both = Submissions(first, StatusFiles(tmp_path / "status"), ManualClock())
        assert await both.count_by_state("spring") == {"ticketed": 2}
        row = await first.fetch_one("PRAGMA journal_mode")
        assert row is not None
        assert row[0] == "delete"
    finally:
        await first.close()
        await second.close()
