"""Tickets of a real server over loopback: durable, once per commitment, on time or refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bistro.api import media, routes
from bistro.errors import (
    BistroError,
    FormatError,
    LimitExceededError,
    NotOpenError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.protocol.deadline import latest_on_time
from bistro.wire.admission import Admission
from bistro.wire.checkpoint import verify_checkpoint
from bistro.wire.refusal import Refusal
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import (
    MAX_REQUESTS_SIZE,
    Postponed,
    Refused,
    Ticketed,
    TicketRequest,
)
from bistro_server.app import Server
from bistro_server.services.ticket_parties import OPENING_JITTER_MS
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


def ticket_in(answer: object, site: Destination, number: int) -> Ticket:
    """The verified ticket in an answer."""
    assert isinstance(answer, Ticketed)
    ticket = Ticket.parse(answer.ticket)
    ticket.verify(site.terms.keys.log, site.call.origin, commitment(number))
    return ticket


def refusal_in(answer: object, site: Destination, number: int) -> Refusal:
    """The verified refusal in an answer."""
    assert isinstance(answer, Refused)
    refusal = Refusal.parse(answer.refusal)
    refusal.verify(site.terms.keys.log, site.call.origin, commitment(number))
    return refusal


async def until_closed(site: Destination) -> None:
    """Let the closing part do its work; the pause is real, the time is not."""
    while not site.server.calls.get("spring").is_closed:  # noqa: ASYNC110 - a poll is all there is
        await asyncio.sleep(0.005)


async def test_a_ticket_proves_when_its_request_was_received(tmp_path: Path) -> None:
    """The time is that of the request, and the proof holds without the server."""
    async with destination(tmp_path / "d") as site:
        site.clock.advance(1_234)
        answer = await site.api.request_ticket("spring", site.request(1))
        ticket = ticket_in(answer, site, 1)
        assert ticket.time == site.clock.now()
        assert ticket.index == 1


async def test_asking_twice_returns_the_first_ticket(tmp_path: Path) -> None:
    """A repeated request never moves the time of a commitment, whatever it says otherwise."""
    async with destination(tmp_path / "d") as site:
        first = ticket_in(await site.api.request_ticket("spring", site.request(1)), site, 1)
        site.clock.advance(2 * HOUR_MS)
        other = TicketRequest(commitment(1), b"\0" * 32)
        again = ticket_in(await site.api.request_ticket("spring", other), site, 1)
        assert (again.entry, again.index) == (first.entry, first.index)


async def test_a_thousand_items_are_answered_in_order(tmp_path: Path) -> None:
    """A bulk answer has one ticket for each item, repeated items included."""
    async with destination(tmp_path / "d") as site:
        numbers = [*range(999), 0]
        answers = await site.api.request_tickets("spring", [site.request(n) for n in numbers])
        tickets = [ticket_in(answer, site, n) for n, answer in zip(numbers, answers, strict=True)]
        assert [ticket.index for ticket in tickets] == [*range(1, 1_000), 1]


async def test_the_last_millisecond_is_on_time_and_the_next_is_refused(tmp_path: Path) -> None:
    """On time means up to ``closes + grace_ms``; later there is a signed refusal instead."""
    async with destination(tmp_path / "d") as site:
        site.clock.advance(latest_on_time(site.terms) - site.clock.now())
        ticket_in(await site.api.request_ticket("spring", site.request(1)), site, 1)
        site.clock.advance(1)
        answer = await site.api.request_ticket("spring", site.request(2))
        refusal = refusal_in(answer, site, 2)
        assert refusal.reason == "deadline-passed"
        assert refusal.time == site.clock.now()


async def test_one_commitment_has_one_refusal(tmp_path: Path) -> None:
    """Asking again after the deadline returns the first refusal; tickets are still served."""
    async with destination(tmp_path / "d") as site:
        ticket_in(await site.api.request_ticket("spring", site.request(1)), site, 1)
        site.clock.advance(HOUR_MS + 2_000)
        await until_closed(site)
        first = refusal_in(await site.api.request_ticket("spring", site.request(2)), site, 2)
        site.clock.advance(60_000)
        answers = await site.api.request_tickets("spring", [site.request(2), site.request(1)])
        assert refusal_in(answers[0], site, 2).index == first.index == 0
        ticket_in(answers[1], site, 1)


async def test_the_call_closes_by_itself_after_the_grace_and_not_before(tmp_path: Path) -> None:
    """The ``closed`` entry is later than any ticket may be, and nobody has to ask for it."""
    async with destination(tmp_path / "d") as site:
        site.clock.advance(latest_on_time(site.terms) - site.clock.now())
        with pytest.raises(NotOpenError):
            await site.server.calls.get("spring").append_closed()
        with pytest.raises(UnknownObjectError):
            await site.api.fetch_closed("spring")
        site.clock.advance(1_000)
        await until_closed(site)
        closed = await site.api.fetch_closed("spring")
        closed.verify(site.terms.keys.log, site.call.origin, site.terms.hash)
        assert closed.time > latest_on_time(site.terms)


async def test_before_opens_nothing_is_stamped(tmp_path: Path) -> None:
    """The answer says how long to wait, not to all the same, and the log stays as it is."""
    opens = UnixMillis(ManualClock().now() + 60_000)
    async with destination(tmp_path / "d", opens=opens) as site:
        requests = [site.request(number) for number in range(16)]
        answers = await site.api.request_tickets("spring", requests)
        waits = set()
        for answer in [*answers, await site.api.request_ticket("spring", site.request(1))]:
            assert isinstance(answer, Postponed)
            assert answer.code == "not-open"
            waits.add(answer.retry_ms)
        assert len(waits) > 8
        assert 60_000 <= min(waits) <= max(waits) < 60_000 + OPENING_JITTER_MS
        assert site.server.calls.get("spring").log.size == 1


async def test_requests_that_rules_refuse_leave_no_entry(tmp_path: Path) -> None:
    """Unknown terms and admissions where anyone files are answered item by item."""
    async with destination(tmp_path / "d") as site:
        admission = Admission(b"\1" * 32, "main", b"\2" * 64)
        answers = await site.api.request_tickets(
            "spring",
            [
                TicketRequest(commitment(1), b"\0" * 32),
                TicketRequest(commitment(2), site.terms.hash, admission),
                site.request(3),
            ],
        )
        assert answers[:2] == (Postponed("unknown-object"), Postponed("not-registered"))
        assert ticket_in(answers[2], site, 3).index == 1


async def test_after_repair_by_nothing_new_is_written(tmp_path: Path) -> None:
    """The time for refusals ends, too; a ticket that exists is served for ever."""
    async with destination(tmp_path / "d") as site:
        ticket_in(await site.api.request_ticket("spring", site.request(1)), site, 1)
        site.clock.advance(4 * HOUR_MS)
        answers = await site.api.request_tickets("spring", [site.request(1), site.request(2)])
        ticket_in(answers[0], site, 1)
        assert answers[1] == Postponed("deadline-passed")


async def test_the_opening_entry_is_the_last(tmp_path: Path) -> None:
    """Before ``closed`` there is no opening; after it no ticket and no refusal."""
    async with destination(tmp_path / "d") as site:
        ledgers = site.server.calls.get("spring")
        with pytest.raises(NotOpenError):
            await ledgers.append_opening()
        site.clock.advance(HOUR_MS + 2_000)
        await until_closed(site)
        await ledgers.append_opening()
        assert (await site.api.fetch_discovery()).calls[0].state == "opened"
        answer = await site.api.request_ticket("spring", site.request(1))
        assert answer == Postponed("deadline-passed")
        opening = await site.api.fetch_opening("spring")
        assert opening.index == ledgers.log.size - 1


@pytest.mark.parametrize(
    ("call", "content_type", "body", "expected"),
    [
        ("spring", media.MSGPACK, b"\x91", FormatError),
        ("spring", media.MSGPACK, b"", FormatError),
        ("spring", media.JSON, b"[]", FormatError),
        ("autumn", media.MSGPACK, b"\x90", UnknownObjectError),
        ("..", media.MSGPACK, b"\x90", UnknownObjectError),
        ("spring", media.MSGPACK, b"\0" * (MAX_REQUESTS_SIZE + 1), LimitExceededError),
    ],
)
async def test_bad_requests_are_problems(
    tmp_path: Path, call: str, content_type: str, body: bytes, expected: type[BistroError]
) -> None:
    """Each is answered with the code of the catalogue, and nothing is stamped."""
    async with destination(tmp_path / "d") as site:
        url = routes.TICKETS.url(site.base_url, call=call)
        headers = {"Content-Type": content_type}
        with pytest.raises(expected):
            await site.session.ask("POST", url, headers=headers, body=body, limit=10_000)
        assert site.server.calls.get("spring").log.size == 1


async def test_one_address_cannot_take_every_place(tmp_path: Path) -> None:
    """More than its share is answered 503 with a time to come back, unstamped."""
    folder, settings = make_server(tmp_path / "d", tickets={"address_count": 2})
    clock = ManualClock()
    call = await make_call(folder, clock)
    async with serving_folder(folder, settings, clock) as (server, _), Session() as session:
        api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
        requests = [TicketRequest(commitment(n), call.terms.hash) for n in range(3)]
        with pytest.raises(UnavailableError) as caught:
            await api.request_tickets("spring", requests)
        assert caught.value.code == "overloaded"
        assert caught.value.retry_after_s
        assert len(await api.request_tickets("spring", requests[:2])) == 2


async def test_a_plain_port_answers_ticket_requests_and_nothing_else(tmp_path: Path) -> None:
    """Discovery names it; the quick way and the ordinary one are both there."""
    folder, settings = make_server(tmp_path / "d", tickets={"plain_port": 0})
    clock = ManualClock()
    call = await make_call(folder, clock)
    async with serving_folder(folder, settings, clock) as (server, _), Session() as session:
        discovery = await ServerClient(
            session, f"http://127.0.0.1:{server.http.port}"
        ).fetch_discovery()
        assert server.tickets is not None
        assert discovery.tickets_url == f"http://127.0.0.1:{server.tickets.port}"
        plain = ServerClient(session, discovery.tickets_url)
        answer = await plain.request_ticket("spring", TicketRequest(commitment(1), call.terms.hash))
        assert isinstance(answer, Ticketed)
        for route in (routes.DISCOVERY, routes.METRICS, routes.HEALTH):
            with pytest.raises(UnknownObjectError):
                await session.ask("GET", route.url(discovery.tickets_url), limit=10_000)
        again = await plain.request_ticket("spring", TicketRequest(commitment(1), call.terms.hash))
        assert isinstance(again, Ticketed)
        assert Ticket.parse(again.ticket).index == Ticket.parse(answer.ticket).index


async def test_without_a_trusted_clock_nothing_is_stamped(tmp_path: Path) -> None:
    """An unknown error bound stops stamping but not what was promised; it may come back."""
    async with destination(tmp_path / "d") as site:
        ticket_in(await site.api.request_ticket("spring", site.request(1)), site, 1)
        site.clock.bound_ms = None
        with pytest.raises(UnavailableError, match="clock error"):
            await site.api.request_ticket("spring", site.request(2))
        with pytest.raises(UnavailableError, match="clock error"):
            await site.session.ask("GET", f"{site.base_url}/readyz", limit=10_000)
        ticket_in(await site.api.request_ticket("spring", site.request(1)), site, 1)
        site.clock.bound_ms = 10
        ticket_in(await site.api.request_ticket("spring", site.request(2)), site, 2)


async def test_a_server_does_not_start_with_an_unknown_clock(tmp_path: Path) -> None:
    """The message says what to do."""
    folder, settings = make_server(tmp_path / "d")
    with pytest.raises(UnavailableError, match="clock error") as caught:
        await Server.open(folder, settings, ManualClock(bound_ms=None))
    assert "assumed" in caught.value.hint


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS])
async def test_a_clock_set_by_an_hour_stops_the_server(tmp_path: Path, step_ms: int) -> None:
    """Nothing is stamped with a time that jumped; the daemon ends with the reason."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    call = await make_call(folder, clock)
    async with serving_folder(folder, settings, clock) as (server, task):
        ledgers = server.calls.get("spring")
        clock.step(step_ms)

        async with Session() as session:
            api = ServerClient(session, f"http://127.0.0.1:{server.http.port}")
            with pytest.raises(UnavailableError):
                await api.request_ticket("spring", TicketRequest(commitment(1), call.terms.hash))
        await asyncio.wait([task], timeout=10)
        with pytest.raises(StorageError, match="clock"):
            task.result()
        assert ledgers.log.size == 1


async def test_a_restart_knows_everything_that_was_answered(tmp_path: Path) -> None:
    """Tickets, refusals and the closed entry are found again, with the same places."""
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    await make_call(folder, clock)
    found = []
    for _ in range(2):
        async with serving_folder(folder, settings, clock) as (server, task):
            base_url = f"http://127.0.0.1:{server.http.port}"
            async with Session() as session:
                api = ServerClient(session, base_url)
                ledgers = server.calls.get("spring")
                site = Destination(
                    folder, ledgers.call, clock, server, base_url, session, api, task
                )
                ticket = ticket_in(await api.request_ticket("spring", site.request(1)), site, 1)
                if not ledgers.is_closed:
                    clock.advance(HOUR_MS + 2_000)
                    await until_closed(site)
                refusal = refusal_in(await api.request_ticket("spring", site.request(2)), site, 2)
                closed = await api.fetch_closed("spring")
                found.append((ticket.entry, refusal.entry, closed.entry, closed.index))
    assert found[0] == found[1]


async def test_logs_are_published_as_tiles(tmp_path: Path) -> None:
    """Checkpoint, hashes, entries and proofs agree, for tickets and for refusals."""
    async with destination(tmp_path / "d") as site:
        await site.api.request_tickets("spring", [site.request(n) for n in range(300)])
        note = await site.api.fetch_checkpoint("spring")
        checkpoint = verify_checkpoint(note.encode(), site.terms.keys.log)
        assert checkpoint.size == 301
        assert len(await site.api.fetch_tile("spring", "0/000")) == 256 * 32
        assert len(await site.api.fetch_tile("spring", "0/001.p/45")) == 45 * 32
        proof = await site.api.fetch_log_proof("spring", 300)
        assert proof.verify(site.terms.keys.log).size == 301
        with pytest.raises(UnknownObjectError):
            await site.api.fetch_log_proof("spring", 301)
        with pytest.raises(UnknownObjectError):
            await site.api.fetch_tile("spring", "0/002")
        refusals = routes.REFUSALS_CHECKPOINT.url(site.base_url, call="spring")
        with pytest.raises(UnknownObjectError):
            await site.session.ask("GET", refusals, limit=10_000)


async def test_terms_are_served_with_their_place_in_the_log(tmp_path: Path) -> None:
    """Discovery leads to terms that verify; who has them already gets 304."""
    async with destination(tmp_path / "d") as site:
        found = await site.api.fetch_discovery()
        assert (found.calls[0].id, found.calls[0].state) == ("spring", "open")
        served = await site.api.fetch_terms("spring")
        served.signed.verify(found.terms_key)
        served.entry.verify(site.terms.keys.log, site.call.origin, site.terms.hash)
        assert served.entry.index == 0
        url, known = routes.TERMS.url(site.base_url, call="spring"), site.terms.hash.hex()
        for tag, status in ((known, 304), (known[::-1], 200)):
            headers = {"If-None-Match": f'"{tag}"'}
            answer = await site.session.ask("GET", url, headers=headers, limit=100_000)
            assert (answer.status, answer.headers["ETag"]) == (status, f'"{known}"')
        version = await site.api.fetch_terms_version("spring", site.terms.hash)
        assert version == served
        with pytest.raises(UnknownObjectError):
            await site.api.fetch_terms_version("spring", b"\0" * 32)
        with pytest.raises(UnknownObjectError):
            await site.api.fetch_minutes("spring")


async def test_a_new_call_is_picked_up_while_serving(tmp_path: Path) -> None:
    """Nobody restarts a server for a new call."""
    async with destination(tmp_path / "d") as site:
        await make_call(site.folder, site.clock, origin=Origin("permits.example", "autumn"))
        async with asyncio.timeout(5):
            while len((await site.api.fetch_discovery()).calls) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        terms = (await site.api.fetch_terms("autumn")).signed
        answer = await site.api.request_ticket("autumn", TicketRequest(commitment(1), terms.hash))
        assert isinstance(answer, Ticketed)
