"""The admissions that a destination keeps: durable before tickets, read into the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bistro.crypto.digest import sha256
from bistro.crypto.keyfile import filer_public
from bistro.errors import StorageError, UnavailableError
from bistro.instant import UnixMillis
from bistro.wire.admission import Admission, Admitted
from bistro.wire.entry import ClosedEntry, Entry, TermsEntry, TicketEntry
from bistro_server.services.admission_keeper import AT_ONCE, AdmissionKeeper
from bistro_server.store.admission_file import AdmissionFile, read_admissions
from bistro_server.store.admissions import Admissions
from bistro_server.store.schema import open_database
from tests.support.destinations import SPRING, commitment
from tests.support.disks import FaultyDisk, How, KilledError
from tests.support.strategies import private_key

TERMS = sha256(b"terms")


def admitted(number: int, filer: str = "ada", slot: str = "main") -> Admitted:
    """What a filer signs for a numbered commitment."""
    made = Admission.sign(
        private_key(filer), commitment=commitment(number), terms_hash=TERMS, slot=slot
    )
    return Admitted(commitment(number), TERMS, made)


def kept(path: Path, start: int = 0) -> list[Admitted]:
    """What can be read."""
    return read_admissions(path, start, limit=10_000)[0]


def ticket(one: Admitted) -> TicketEntry:
    """The entry that names an admission."""
    return TicketEntry(
        origin=str(SPRING),
        time=UnixMillis(1),
        digest=one.commitment,
        admission=one.admission.hash,
    )


def test_what_was_appended_is_there_after_opening_again(tmp_path: Path) -> None:
    """In order, and the next is appended behind it."""
    path, all_of_them = tmp_path / "admissions", [admitted(number) for number in range(5)]
    for batch in (all_of_them[:2], all_of_them[2:4], all_of_them[4:]):
        file = AdmissionFile.open(path, known_size=0)
        file.append(batch)
        assert file.size == path.stat().st_size
        file.close()
    assert kept(path) == all_of_them
    found, end = read_admissions(path, 0, limit=2)
    assert found == all_of_them[:2]
    assert kept(path, end) == all_of_them[2:]
    assert read_admissions(path, 0, limit=10, stop=end)[0] == all_of_them[:2]


@settings(max_examples=60)
@given(st.data())
def test_what_a_crash_tore_is_cut_off_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut anywhere, or with anything behind it: whole records stay, and it goes on."""
    path = tmp_path_factory.mktemp("torn") / "admissions"
    file = AdmissionFile.open(path, known_size=0)
    ends = [0]
    for number in range(3):
        file.append([admitted(number)])
        ends.append(file.size)
    file.close()
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    tail = data.draw(st.binary(max_size=700))
    path.write_bytes(whole[:cut] + tail)
    count = max(at for at, end in enumerate(ends) if (whole[:cut] + tail)[:end] == whole[:end])
    file = AdmissionFile.open(path, known_size=0)
    assert file.size == ends[count]
    file.append([admitted(9)])
    file.close()
    assert kept(path) == [*(admitted(number) for number in range(count)), admitted(9)]


@pytest.mark.parametrize("how", ["not-stored", "stored"])
@pytest.mark.parametrize("step", [0, 1])
def test_a_failed_append_promises_nothing_and_is_found_whole_or_not_at_all(
    tmp_path: Path, how: How, step: int
) -> None:
    """Writing and syncing fail both ways; the file takes nothing more until it is opened."""
    disk, path = FaultyDisk(), tmp_path / "admissions"
    file = AdmissionFile.open(path, known_size=0, disk=disk)
    file.append([admitted(0)])
    size = file.size
    disk.fail_at(step, how)
    with pytest.raises(StorageError):
        file.append([admitted(1), admitted(2)])
    assert file.size == size
    with pytest.raises(StorageError, match="stopped"):
        file.append([admitted(3)])
    file.close()
    disk.heal()
    file = AdmissionFile.open(path, known_size=size, disk=disk)
    found = kept(path)
    assert found == [admitted(number) for number in range(len(found))]
    file.append([admitted(7)])
    file.close()
    assert kept(path) == [*found, admitted(7)]


def test_a_full_disk_keeps_nothing_and_passes(tmp_path: Path) -> None:
    """It tears a record, which is cut off; once there is room the same owner goes on."""
    disk, path = FaultyDisk(), tmp_path / "admissions"
    file = AdmissionFile.open(path, known_size=0, disk=disk)
    file.append([admitted(0)])
    size = file.size
    disk.fail_at(0, "full")
    for number in (1, 2):
        with pytest.raises(UnavailableError, match="no space left"):
            file.append([admitted(number)])
        assert file.size == size
        assert kept(path) == [admitted(0)]
    assert path.stat().st_size == size, "what was torn is gone"
    disk.heal()
    file.append([admitted(3), admitted(4)])
    assert file.size == path.stat().st_size
    file.close()
    assert kept(path) == [admitted(0), admitted(3), admitted(4)]


@pytest.mark.parametrize("how", ["not-stored", "stored"])
@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_tidying_up_after_a_full_disk_fails_both_ways(tmp_path: Path, how: How, step: int) -> None:
    """Cutting, renewing or the next append fails: nothing is promised until it is opened."""
    disk, path = FaultyDisk(), tmp_path / "admissions"
    file = AdmissionFile.open(path, known_size=0, disk=disk)
    file.append([admitted(0)])
    disk.fail_at(0, "full")
    with pytest.raises(UnavailableError):
        file.append([admitted(1)])
    size = file.size
    disk.heal()
    calls = len(disk.calls)
    disk.fail_at(step, how)
    with pytest.raises(StorageError):
        file.append([admitted(2)])
    assert len(disk.calls) == calls + step + 1
    disk.heal()
    with pytest.raises(StorageError, match="stopped"):
        file.append([admitted(3)])
    file.close()
    file = AdmissionFile.open(path, known_size=size, disk=disk)
    file.append([admitted(4)])
    file.close()
    assert kept(path) in [
        [admitted(0), admitted(4)],
        [admitted(0), admitted(2), admitted(4)],
    ]


def test_a_kill_at_any_step_leaves_a_file_that_opens(tmp_path: Path) -> None:
    """From the first name to the last sync."""
    for step in range(20):
        disk, path = FaultyDisk(at=step, how="kill"), tmp_path / f"admissions {step}"
        is_over = True
        try:
            file = AdmissionFile.open(path, known_size=0, disk=disk)
            file.append([admitted(0)])
            file.append([admitted(1)])
        except KilledError:
            is_over = False
        disk.heal()
        AdmissionFile.open(path, known_size=0).close()
        found = kept(path)
        assert found == [admitted(number) for number in range(len(found))]
        if is_over:
            assert len(found) == 2
            return
    pytest.fail("it never came to its end")


def test_a_file_shorter_than_was_known_is_refused(tmp_path: Path) -> None:
    """An old copy must not be continued."""
    path = tmp_path / "admissions"
    file = AdmissionFile.open(path, known_size=0)
    file.append([admitted(0)])
    file.close()
    with pytest.raises(StorageError, match="expected at least 1000 bytes"):
        AdmissionFile.open(path, known_size=1_000)


class Log:
    """Entries, and a keeper that reads them and the file into a database."""

    def __init__(self, path: Path, admissions: Admissions) -> None:
        self.list: list[Entry] = [
            TermsEntry(origin=str(SPRING), time=UnixMillis(0), digest=TERMS),
        ]
        self._path = path
        self._admissions = admissions

    async def entries(self, start: int) -> AsyncIterator[tuple[int, Entry]]:
        for index, entry in enumerate(self.list[start:], start):
            yield index, entry

    def keeper(self) -> AdmissionKeeper:
        return AdmissionKeeper("spring", self._path, self.entries, self._admissions)


@asynccontextmanager
async def keeping(
    root: Path, written: Sequence[Admitted]
) -> AsyncIterator[tuple[Log, Admissions, AdmissionFile]]:
    """A database, a file with these admissions, and a log of one entry."""
    path = root / "admissions"
    database = await open_database(root / "server.sqlite3")
    file = AdmissionFile.open(path, known_size=0)
    if written:
        file.append(written)
    admissions = Admissions(database)
    yield Log(path, admissions), admissions, file
    file.close()
    await database.close()


async def test_tickets_are_counted_by_filer_once_however_often_admissions_come(
    tmp_path: Path,
) -> None:
    """Those without a ticket do not count, nor does what is repeated."""
    ada, bob = [admitted(number) for number in range(3)], admitted(3, "bob")
    async with keeping(tmp_path, [ada[0], ada[0], bob]) as (log, admissions, file):
        log.list += [ticket(ada[0]), ticket(bob)]
        await log.keeper().catch_up()
        file.append([ada[1], ada[2], ada[0]])
        log.list += [
            ticket(ada[1]),
            ClosedEntry(origin=str(SPRING), time=UnixMillis(2), digest=TERMS),
        ]
        for _ in range(2):
            await log.keeper().catch_up()
            assert await admissions.counts("spring") == {
                filer_public(private_key("ada")): 2,
                filer_public(private_key("bob")): 1,
            }
        kept = await admissions._database.fetch_all(
            "SELECT log_index, data FROM admission WHERE log_index >= 3"
        )
        assert [tuple(row) for row in kept] == [(3, ada[1].admission.encode())]
        assert await admissions.counts("autumn") == {}


async def test_a_database_that_was_lost_is_made_anew(tmp_path: Path) -> None:
    """In many steps, from file and log alone."""
    many = [admitted(number, slot=f"slot-{number}") for number in range(AT_ONCE + 20)]
    async with keeping(tmp_path, many[:AT_ONCE]) as (log, admissions, file):
        file.append(many[AT_ONCE:])
        log.list += [ticket(one) for one in many]
        await log.keeper().catch_up()
        assert await admissions.counts("spring") == {filer_public(private_key("ada")): len(many)}
        read = await admissions.read("spring")
        assert (read.size, read.entries) == (file.size, len(log.list))


async def test_a_ticket_without_its_admission_stops_the_server(tmp_path: Path) -> None:
    """The file lost what a ticket rests on: nothing is recorded as if it were well."""
    async with keeping(tmp_path, [admitted(0)]) as (log, admissions, _):
        log.list += [ticket(admitted(0)), ticket(admitted(1))]
        with pytest.raises(StorageError, match="1 tickets of its log name admissions"):
            await log.keeper().catch_up()
        assert await admissions.counts("spring") == {}


async def test_two_processes_may_read_the_same(tmp_path: Path) -> None:
    """``serve`` and ``open`` both keep the database in step."""
    async with keeping(tmp_path, [admitted(0), admitted(1)]) as (log, admissions, file):
        first, second = log.keeper(), log.keeper()
        log.list += [ticket(admitted(0))]
        await first.step()
        log.list += [ticket(admitted(1))]
        await second.catch_up()
        file.append([admitted(2)])
        log.list += [ticket(admitted(2))]
        await first.catch_up()
        await second.catch_up()
        assert await admissions.counts("spring") == {filer_public(private_key("ada")): 3}
