"""Quick requests that are answered together, over real loopback connections."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from prometheus_client import generate_latest

from bistro.api import routes
from bistro.daemon import front, listening
from bistro.errors import OverloadedError
from tests.support.clocks import NOON
from tests.support.quick_site import break_answers, quick_site, request, until

pytestmark = pytest.mark.usefixtures("reading")


async def test_requests_of_one_size_are_answered_together() -> None:
    """Those of one pass of the event loop, each its own, in any order of sizes."""
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(quick_site())
        lines = [await stack.enter_async_context(await site.connect()) for _ in range(20)]
        for number in range(3):
            for at, line in enumerate(lines):
                line.send(request(b"%03d %03d" % (at, number)))
            answers = [await line.answer() for line in lines]
            expected = [b"together " + (b"%03d %03d" % (at, number))[::-1] for at in range(20)]
            assert [body for _, _, body in answers] == expected
            assert len({fields[routes.REQUEST_ID] for _, fields, _ in answers}) == 20
            lines[number].send(request(b"abc"))
            assert (await lines[number].answer())[2] == b"quick cba"
        assert len(site.hall.bursts) < 60
        assert {(call, burst.received_at) for call, burst in site.hall.bursts} == {("spring", NOON)}
        text = generate_latest(site.registry).decode()
    assert 'bistro_http_requests_total{method="POST",route="tickets",status="200"} 63.0' in text
    assert 'bistro_http_request_duration_seconds_count{route="tickets"} 63.0' in text


async def test_requests_sent_ahead_of_a_burst_are_answered_in_order() -> None:
    """One at a time, as everywhere; also when they come in pieces."""
    async with quick_site() as site, await site.connect() as line:
        data = b"".join(request(b"%07d" % number) for number in range(30))
        for begin in range(0, len(data), 100):
            line.send(data[begin : begin + 100])
            await asyncio.sleep(0)
        answers = [(await line.answer())[2] for _ in range(30)]
    assert answers == [b"together " + (b"%07d" % number)[::-1] for number in range(30)]


async def test_an_error_answers_a_whole_burst() -> None:
    """With one text, counted for each."""
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(quick_site())
        site.hall.error = OverloadedError("full", retry_after_s=1.5)
        lines = [await stack.enter_async_context(await site.connect()) for _ in range(5)]
        for line in lines:
            line.send(request(b"refused"))
        for line in lines:
            status, fields, body = await line.answer()
            assert (status, fields["Retry-After"]) == (503, "2")
            assert json.loads(body)["code"] == "overloaded"
        site.hall.error = None
        lines[0].send(request(b"granted"))
        assert (await lines[0].answer())[0] == 200
        text = generate_latest(site.registry).decode()
    assert 'bistro_http_errors_total{code="overloaded",route="tickets"} 5.0' in text


async def test_whoever_leaves_a_burst_harms_no_other() -> None:
    """Gone before the answer, or answered already that it took too long."""
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(quick_site())
        site.hall.is_silent = True
        lines = [await stack.enter_async_context(await site.connect()) for _ in range(3)]
        for number, line in enumerate(lines):
            line.send(request(b"%07d" % number))
        await until(lambda: sum(len(burst.bodies) for _, burst in site.hall.bursts) == 3)
        assert [burst.has_left for _, burst in site.hall.bursts] == [False] * len(site.hall.bursts)
        lines[1].break_off()
        await until(lambda: sum(burst.waiting_count for _, burst in site.hall.bursts) == 2)
        for _, burst in site.hall.bursts:
            site.hall.answer(burst)
            site.hall.answer(burst)
        assert (await lines[0].answer())[2] == b"together 0000000"
        assert (await lines[2].answer())[2] == b"together 2000000"


async def test_a_burst_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its late answer is not taken for that to the next request."""
    monkeypatch.setattr(front, "SWEEP_S", 0.01)
    async with quick_site(request_timeout_s=0.05) as site, await site.connect() as line:
        site.hall.is_silent = True
        line.send(request(b"slow..."))
        assert (await line.answer())[0] == 503
        line.send(request(b"another"))
        await until(lambda: len(site.hall.bursts) == 2)
        site.hall.answer(site.hall.bursts[0][1])
        site.hall.answer(site.hall.bursts[1][1])
        assert (await line.answer())[2] == b"together rehtona"


async def test_an_answer_of_a_burst_that_cannot_be_sent_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The event loop hears of it; all others of their answers."""
    # A poller sends without running code that could fail.
    monkeypatch.setattr(listening, "new_poller", lambda: None)
    heard = break_answers(monkeypatch, b"nekorb")
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(quick_site())
        lines = [await stack.enter_async_context(await site.connect()) for _ in range(3)]
        for line, body in zip(lines, (b"whole 1", b"1broken", b"whole 3"), strict=True):
            line.send(request(body))
        assert (await lines[0].answer())[2] == b"together 1 elohw"
        assert (await lines[2].answer())[2] == b"together 3 elohw"
        assert [type(one["exception"]) for one in heard] == [RuntimeError]
