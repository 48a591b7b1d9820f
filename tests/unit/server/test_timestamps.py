"""The time-stamp desk: when it stamps, what time it states, and how wrong it says that may be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp import der
from bistro.crypto.timestamp.token import PREFIX_SIZE, encode_accuracy, encode_time
from bistro.errors import UnknownObjectError
from bistro.instant import UnixMillis
from bistro_server.services.authority import AuthorityFiles
from bistro_server.services.folder import ServerFolder
from bistro_server.services.timestamps import TimestampDesk
from tests.support.clocks import NOON, ManualClock
from tests.support.timestamps import POLICY, REQUESTS, Request, authority

DAY_MS = 86_400_000


class Desk:
    """A desk, its clock, and what it reported."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.results: list[str] = []
        self._desk = TimestampDesk(
            authority(),
            self.clock,
            policy=POLICY,
            error_limit_ms=100,
            randomness=bytes(PREFIX_SIZE),
            report=self.results.append,
        )

    def ask(self, request: bytes | None = None) -> bytes:
        return self._desk.answer(Request().encode() if request is None else request)

    def states(self, time: int, *, accuracy_ms: int) -> bool:
        """Whether the next token has this time and accuracy."""
        wanted = encode_time(UnixMillis(time)) + encode_accuracy(accuracy_ms)
        response = self.ask()
        assert self.results[-1] == "granted"
        return wanted in response


@given(st.binary(max_size=5_000) | REQUESTS.map(Request.encode))
def test_every_request_is_answered(request: bytes) -> None:
    """With a token or with status 2; nothing that is sent raises."""
    desk = Desk()
    outer = der.Reader("response", desk.ask(request)).nested()
    status = outer.nested().integer()
    assert (status == b"\x02\x01\x00") == (desk.results == ["granted"]) == (not outer.is_done())
    assert status in {b"\x02\x01\x00", b"\x02\x01\x02"}


def test_the_time_is_that_of_the_clock_and_its_error_is_stated() -> None:
    """One millisecond more than the clock's bound, because the time is cut to milliseconds."""
    desk = Desk()
    assert desk.states(NOON, accuracy_ms=11)
    desk.clock.advance(1_234)
    desk.clock.bound_ms = 99
    assert desk.states(NOON + 1_234, accuracy_ms=100)
    desk.clock.advance(1)
    desk.clock.bound_ms = 0
    assert desk.states(NOON + 1_235, accuracy_ms=1)


@pytest.mark.parametrize("bound_ms", [None, 101])
def test_nothing_is_stamped_while_the_clock_may_be_wrong(bound_ms: int | None) -> None:
    """The failure is that of a time source, and passes with it."""
    desk = Desk()
    desk.clock.bound_ms = bound_ms
    desk.ask()
    desk.clock.bound_ms = 100
    desk.clock.advance(1)
    desk.ask()
    assert desk.results == ["time_not_available", "granted"]


def test_what_the_clock_says_is_asked_again_every_millisecond() -> None:
    """Of either clock: a day that was set to the very same millisecond is noticed, too."""
    desk = Desk()
    desk.ask()
    desk.clock.bound_ms = None
    desk.clock.advance(1)
    desk.ask()
    desk.clock.bound_ms = 10
    desk.clock.advance(1_999)
    desk.ask()
    desk.clock.advance(2_000)
    desk.clock.step(-2_000)
    desk.ask()
    assert desk.results == ["granted", "time_not_available", "granted", "time_not_available"]


def test_a_time_never_goes_back_and_says_what_that_costs() -> None:
    """A little is added to the accuracy; more is not stamped until the clock is there again."""
    desk = Desk()
    assert desk.states(NOON, accuracy_ms=11)
    desk.clock.step(-90)
    assert desk.states(NOON, accuracy_ms=101)
    desk.clock.step(-1)
    desk.ask()
    assert desk.results[-1] == "time_not_available"
    desk.clock.advance(91)
    assert desk.states(NOON, accuracy_ms=11)


@pytest.mark.parametrize("step_ms", [-1_001, 501])
def test_nothing_is_stamped_after_the_clock_was_set(step_ms: int) -> None:
    """Whoever set it may have set it wrong."""
    desk = Desk()
    desk.ask()
    desk.clock.step(step_ms)
    desk.ask()
    assert desk.results == ["granted", "time_not_available"]


@pytest.mark.parametrize("days", [-1, certificates.VALIDITY_DAYS + 1])
def test_nothing_is_stamped_outside_the_time_of_the_certificate(days: int) -> None:
    """Nobody could verify such a token."""
    desk = Desk()
    desk.clock.step(days * DAY_MS)
    found = TimestampDesk(
        authority(),
        desk.clock,
        policy=POLICY,
        error_limit_ms=100,
        randomness=bytes(PREFIX_SIZE),
        report=desk.results.append,
    )
    found.answer(Request().encode())
    assert desk.results == ["system_failure"]


def test_without_a_key_there_is_no_desk(tmp_path: Path) -> None:
    """A folder from before time stamps works all the same."""
    folder = ServerFolder(tmp_path)
    found = AuthorityFiles.of(folder, None, None).load()
    assert found is None
    desk = TimestampDesk(
        found,
        ManualClock(),
        policy=POLICY,
        error_limit_ms=100,
        randomness=bytes(PREFIX_SIZE),
        report=lambda _: None,
    )
    with pytest.raises(UnknownObjectError, match="no RFC 3161 time stamps"):
        desk.answer(Request().encode())
