"""Calls for registered filers: who gets a ticket, who a refusal, and who nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bistro.crypto.keyfile import filer_public
from bistro.errors import StorageError, UnavailableError
from bistro.instant import UnixMillis
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.protocol.deadline import latest_on_time
from bistro.wire.admission import Admission
from bistro.wire.refusal import Refusal
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import Postponed, Refused, TicketAnswer, Ticketed, TicketRequest
from bistro_server.services.admission_keeper import admissions_path
from bistro_server.store.filers import Filers
from bistro_server.store.schema import open_database
from tests.support.clocks import ManualClock
from tests.support.destinations import (
    HOUR_MS,
    Destination,
    commitment,
    destination,
    make_call,
    make_server,
    serving_folder,
)
from tests.support.disks import FaultyDisk, How
from tests.support.strategies import private_key

ADA, BOB = (filer_public(private_key(name)) for name in ("ada", "bob"))


def asking(terms_hash: bytes, number: int, filer: str = "ada", slot: str = "main") -> TicketRequest:
    """A request of a filer for a numbered commitment."""
    admission = Admission.sign(
        private_key(filer), commitment=commitment(number), terms_hash=terms_hash, slot=slot
    )
    return TicketRequest(commitment(number), terms_hash, admission)


@asynccontextmanager
async def filers_of(site: Destination) -> AsyncIterator[Filers]:
    """The list as another process writes it."""
    database = await open_database(site.folder.database)
    yield Filers(database, site.clock)
    await database.close()


@dataclass
class Office:
    """A running server with a call for registered filers, of whom Ada and Bob are two."""

    site: Destination

    async def ask(self, number: int, filer: str = "ada", slot: str = "main") -> TicketAnswer:
        """The answer to one request."""
        request = asking(self.site.terms.hash, number, filer, slot)
        return await self.site.api.request_ticket("spring", request)

    async def ticket(self, number: int, filer: str = "ada") -> Ticket:
        """The ticket of one request, verified; it names the admission."""
        answer = await self.ask(number, filer)
        assert isinstance(answer, Ticketed), answer
        return self.verified(answer, number, filer)

    def verified(self, answer: Ticketed, number: int, filer: str = "ada") -> Ticket:
        """The ticket in an answer."""
        ticket = Ticket.parse(answer.ticket)
        ticket.verify(self.site.terms.keys.log, self.site.call.origin, commitment(number))
        request = asking(self.site.terms.hash, number, filer)
        assert request.admission is not None
        line = f"admission sha256:{request.admission.hash.hex()}\n"
        assert line in ticket.entry.encode().decode()
        return ticket

    def refusal(self, answer: TicketAnswer, number: int) -> Refusal:
        """The refusal in an answer, verified."""
        assert isinstance(answer, Refused), answer
        refusal = Refusal.parse(answer.refusal)
        refusal.verify(self.site.terms.keys.log, self.site.call.origin, commitment(number))
        return refusal

    async def until(self, code: str | None, filer: str = "ada") -> TicketAnswer:
        """Ask for new tickets until the server has noticed a change of its list."""
        for number in itertools.count(1_000):
            answer = await self.ask(number, filer)
            if (answer.code if isinstance(answer, Postponed) else None) == code:
                return answer
            await asyncio.sleep(0.005)  # the pause is real: another process wrote the list
        raise AssertionError

    @property
    def size(self) -> int:
        """Entries of the log."""
        return self.site.server.calls.get("spring").log.size


@asynccontextmanager
async def office(root: Path, **changes: Any) -> AsyncIterator[Office]:
    """An office with Ada and Bob registered."""
    async with destination(root, filers="registered", **changes) as site:
        async with filers_of(site) as filers:
            await filers.put([(ADA, "Ada"), (BOB, "Bob")])
        found = Office(site)
        await found.until(None)
        yield found


async def test_a_registered_filer_gets_a_ticket_that_names_the_admission(tmp_path: Path) -> None:
    """Asking again gives the same entry, one at a time and in arrays."""
    async with office(tmp_path / "d") as o:
        first = await o.ticket(1)
        again = await o.ticket(1)
        assert (again.index, again.entry) == (first.index, first.entry)
        requests = [asking(o.site.terms.hash, number) for number in (2, 1, 3, 2)]
        answers = await o.site.api.request_tickets("spring", requests)
        found = []
        for answer, number in zip(answers, (2, 1, 3, 2), strict=True):
            assert isinstance(answer, Ticketed)
            found.append(o.verified(answer, number).index)
        assert found[1] == first.index
        assert found[0] == found[3]
        assert len(set(found)) == 3


async def test_whoever_is_not_registered_leaves_no_entry(tmp_path: Path) -> None:
    """No admission, an unknown key, a forged one, unknown terms; others in the array are served."""
    async with office(tmp_path / "d") as o:
        before, terms_hash = o.size, o.site.terms.hash
        good = asking(terms_hash, 1)
        assert good.admission is not None
        forged = replace(good, commitment=commitment(2))
        moved = replace(good, admission=replace(good.admission, slot="other"))
        answers = await o.site.api.request_tickets(
            "spring",
            [
                o.site.request(3),
                asking(terms_hash, 4, "carol"),
                forged,
                moved,
                asking(b"\0" * 32, 5),
                asking(terms_hash, 6, "bob"),
            ],
        )
        assert answers[:5] == (
            Postponed("not-registered"),
            Postponed("not-registered"),
            Postponed("not-verified"),
            Postponed("not-verified"),
            Postponed("unknown-object"),
        )
        assert isinstance(answers[5], Ticketed)
        assert o.size == before + 1
        assert await o.ask(7, "carol") == Postponed("not-registered")
        assert await o.site.api.request_ticket("spring", forged) == Postponed("not-verified")
        answer = await o.site.api.request_ticket("spring", o.site.request(6))
        assert isinstance(answer, Ticketed), "tickets are public: whoever asks may see one"


async def test_a_commitment_belongs_to_whose_admission_came_first(tmp_path: Path) -> None:
    """Somebody else's admission for it, or another slot's, meets a conflict, also in one batch."""
    async with office(tmp_path / "d") as o:
        await o.ticket(1)
        assert await o.ask(1, "bob") == Postponed("conflict")
        assert await o.ask(1, slot="other") == Postponed("conflict")
        requests = [asking(o.site.terms.hash, 2, filer) for filer in ("ada", "bob")]
        answers = await o.site.api.request_tickets("spring", requests)
        assert isinstance(answers[0], Ticketed)
        assert answers[1] == Postponed("conflict")
        await o.ticket(1)


async def test_more_tickets_than_a_filer_may_have_are_refused_signed(tmp_path: Path) -> None:
    """Also in one array; repeats do not count, other filers are not touched."""
    async with office(tmp_path / "d", tickets_per_filer=3) as o:
        requests = [asking(o.site.terms.hash, number) for number in (1, 1, 2, 3, 4)]
        answers = await o.site.api.request_tickets("spring", requests)
        kinds = [type(answer) for answer in answers]
        assert kinds == [Ticketed, Ticketed, Ticketed, Refused, Refused]
        first = o.refusal(answers[3], 3)
        assert first.reason == "tickets-per-filer"
        again = o.refusal(await o.ask(3), 3)
        assert (again.index, again.time) == (first.index, first.time)
        assert o.refusal(await o.ask(5), 5).index == 2
        await o.ticket(2)
        await o.ticket(6, "bob")


async def test_the_limit_outlives_restarts(tmp_path: Path) -> None:
    """Counted from log and admissions, wherever the database was when the server ended."""
    root, clock = tmp_path / "d", ManualClock()
    folder, settings = make_server(root)
    call = await make_call(folder, clock, filers="registered", tickets_per_filer=4)
    # So slowly that the database knows of no ticket when the server ends.
    settings = settings.model_copy(
        update={"calls": settings.calls.model_copy(update={"poll_ms": 1_000})}
    )
    database = await open_database(folder.database)
    await Filers(database, clock).put([(ADA, "Ada")])
    await database.close()
    numbers = iter(range(1, 100))
    for _ in range(2):
        async with serving_folder(folder, settings, clock) as (server, _), Session() as session:
            api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
            for _ in range(2):
                request = asking(call.terms.hash, next(numbers))
                assert isinstance(await api.request_ticket("spring", request), Ticketed)
    folder.database.unlink()
    database = await open_database(folder.database)
    await Filers(database, clock).put([(ADA, "Ada")])
    await database.close()
    async with serving_folder(folder, settings, clock) as (server, _), Session() as session:
        api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
        request = asking(call.terms.hash, next(numbers))
        assert isinstance(await api.request_ticket("spring", request), Refused)
        again = await api.request_ticket("spring", asking(call.terms.hash, 1))
        assert isinstance(again, Ticketed)


async def test_changes_of_the_list_count_without_a_restart(tmp_path: Path) -> None:
    """Revoked, a key gets no further ticket, and keeps those that it has; added, it gets some."""
    async with office(tmp_path / "d") as o, filers_of(o.site) as filers:
        await o.ticket(1)
        await filers.revoke([ADA])
        await o.until("not-registered")
        await o.ticket(1)
        assert await o.ask(3) == Postponed("not-registered")
        await o.ticket(4, "bob")
        carol = filer_public(private_key("carol"))
        await filers.put([(carol, "Carol"), (ADA, "Ada")])
        await o.until(None, "carol")
        await o.until(None)


async def test_the_deadline_is_the_same_for_registered_filers(tmp_path: Path) -> None:
    """On time to the last millisecond; then signed refusals, also without a ticket left."""
    async with office(tmp_path / "d", tickets_per_filer=3) as o:
        o.site.clock.advance(latest_on_time(o.site.terms) - o.site.clock.now())
        await o.ticket(1)
        o.site.clock.advance(1)
        assert o.refusal(await o.ask(2), 2).reason == "deadline-passed"
        assert await o.ask(3, "carol") == Postponed("not-registered")
        await o.ticket(1)
        o.site.clock.advance(4 * HOUR_MS)
        assert await o.ask(4) == Postponed("deadline-passed")


async def test_before_opens_a_filer_is_told_to_wait(tmp_path: Path) -> None:
    """Nothing is stamped, and the answer says when to come."""
    opens = UnixMillis(ManualClock().now() + 60_000)
    async with destination(tmp_path / "d", filers="registered", opens=opens) as site:
        async with filers_of(site) as filers:
            await filers.put([(ADA, "Ada")])
        answer = await Office(site).until("not-open")
        assert isinstance(answer, Postponed)
        assert answer.retry_ms >= 60_000
        assert site.server.calls.get("spring").log.size == 1


async def test_a_full_disk_turns_new_admissions_away_and_passes(tmp_path: Path) -> None:
    """Who has a ticket gets it still; who has none is told to come back, and then gets one."""
    clock, disk = ManualClock(), FaultyDisk()
    folder, settings = make_server(tmp_path / "d")
    call = await make_call(folder, clock, filers="registered")
    database = await open_database(folder.database)
    await Filers(database, clock).put([(ADA, "Ada")])
    await database.close()
    async with (
        Session() as session,
        serving_folder(folder, settings, clock, disk=disk) as (server, task),
    ):
        api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")

        async def ask(*numbers: int) -> list[TicketAnswer]:
            requests = [asking(call.terms.hash, number) for number in numbers]
            return list(await api.request_tickets("spring", requests))

        assert [type(answer) for answer in await ask(1)] == [Ticketed]
        disk.fail_at(0, "full")
        with pytest.raises(UnavailableError, match="no space left"):
            await api.request_ticket("spring", asking(call.terms.hash, 2))
        first, second = await ask(1, 3)
        assert isinstance(first, Ticketed)
        assert isinstance(second, Postponed)
        assert second.code == "unavailable"
        assert second.retry_ms > 0
        assert not task.done()
        disk.heal()
        assert [type(answer) for answer in await ask(3, 2)] == [Ticketed, Ticketed]
    async with serving_folder(folder, settings, clock, disk=disk) as (server, _):
        assert server.calls.get("spring").log.size == 4


@pytest.mark.parametrize("how", ["not-stored", "stored"])
@pytest.mark.parametrize("step", [0, 1])
async def test_no_ticket_rests_on_an_admission_that_may_be_lost(
    tmp_path: Path, how: How, step: int
) -> None:
    """Writing or syncing admissions fails: nobody is answered, and a restart goes on."""
    clock, disk = ManualClock(), FaultyDisk()
    folder, settings = make_server(tmp_path / "d")
    call = await make_call(folder, clock, filers="registered", tickets_per_filer=2)
    database = await open_database(folder.database)
    await Filers(database, clock).put([(ADA, "Ada")])
    await database.close()
    async with Session() as session:
        async with serving_folder(folder, settings, clock, disk=disk) as (server, task):
            api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
            first = await api.request_ticket("spring", asking(call.terms.hash, 1))
            assert isinstance(first, Ticketed)
            disk.fail_at(step, how)
            with pytest.raises(UnavailableError):
                await api.request_ticket("spring", asking(call.terms.hash, 2))
            await asyncio.wait([task], timeout=10)
            with pytest.raises(StorageError, match="admissions"):
                task.result()
        disk.heal()
        async with serving_folder(folder, settings, clock, disk=disk) as (server, _):
            api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
            for number, kind in ((2, Ticketed), (1, Ticketed), (3, Refused)):
                answer = await api.request_ticket("spring", asking(call.terms.hash, number))
                assert isinstance(answer, kind)


async def test_a_server_that_lost_its_admissions_does_not_start(tmp_path: Path) -> None:
    """What tickets rest on is gone: it says which file to restore."""
    clock = ManualClock()
    folder, settings = make_server(tmp_path / "d")
    call = await make_call(folder, clock, filers="registered")
    database = await open_database(folder.database)
    await Filers(database, clock).put([(ADA, "Ada")])
    await database.close()
    async with serving_folder(folder, settings, clock) as (server, _), Session() as session:
        api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
        request = asking(call.terms.hash, 1)
        assert isinstance(await api.request_ticket("spring", request), Ticketed)
    admissions_path(call.folder).unlink()
    with pytest.raises(StorageError, match="admissions"):
        async with serving_folder(folder, settings, clock):
            pass
