"""Who asks alone asks one thing after the other, over as many connections as were wanted."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.bench.cases.status import ask_for
from tests.bench.floors.ticket import Echo
from tests.bench.loads.alone import Alone
from tests.unit.bench.test_loads import BAD, GOOD, answering

KNOWN = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'


async def visit(port: int, *, until_s: float | None = None) -> tuple[bool, int]:
    alone = Alone(port)
    until_s = time.perf_counter() + 60 if until_s is None else until_s
    had_time = await asyncio.to_thread(alone.visit, [ask_for("/x")] * 3, until_s)
    return had_time, alone.answered


@pytest.mark.parametrize("answer", [GOOD, KNOWN])
async def test_what_is_new_and_what_is_known_are_good_answers(answer: bytes) -> None:
    """All are counted; after the time is over none is begun."""
    async with answering(lambda: Echo(answer)) as port:
        assert await visit(port) == (True, 3)
        assert await visit(port, until_s=0) == (False, 0)


async def test_a_problem_is_no_good_answer() -> None:
    """A server that refuses has not answered."""
    async with answering(lambda: Echo(BAD)) as port:
        with pytest.raises(ConnectionError, match="503"):
            await visit(port)


def test_whoever_has_an_answer_shows_its_tag() -> None:
    """As the answer names it, and nothing else."""
    assert ask_for("/x") == b"GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    assert b'\r\nIf-None-Match: "a"\r\n\r\n' in ask_for("/x", KNOWN)
