"""The poller itself: what it reads, gathers, sends, and refuses."""

from __future__ import annotations

import contextlib
import errno
import gc
import socket
import struct
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from bistro.daemon.direct import IS_COMPILED, Line, Poller, new_poller

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason="bistro.daemon._direct was not compiled")

LARGE = b"l" * 8_000_000
"""More than the buffers of both ends of a connection take."""


RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing resets the connection."""


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = new_poller()
    assert made is not None
    yield made
    made.close()


class Bucket:
    """Has as many tokens as it is told."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def take(self, count: int, now_s: float) -> float:
        del now_s
        self.tokens -= count
        return 0.0 if self.tokens >= 0 else 1.0


class Burst:
    def __init__(self) -> None:
        self.guests: list[Any] = []
        self.bodies: list[bytes] = []


class Gate:
    def __init__(self) -> None:
        self.burst: Burst | None = None

    def open(self) -> Burst:
        self.burst = Burst()
        return self.burst


class Guest(Line):
    """A line with a socket; the test holds the other end."""

    def __init__(self, poller: Poller) -> None:
        super().__init__()
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.fd = self.near.fileno()
        poller.add(self)

    def expect(self, gate: Gate, head: bytes, size: int) -> None:
        self.gate, self.head, self.whole_size = gate, head, size

    def shut(self) -> None:
        self.near.close()
        self.far.close()


@contextlib.contextmanager
def guests(poller: Poller, count: int) -> Iterator[list[Guest]]:
    made = [Guest(poller) for _ in range(count)]
    yield made
    for one in made:
        one.shut()


def test_the_same_request_again_joins_the_burst_of_its_gate(poller: Poller) -> None:
    """Bodies stand beside guests, who wait from now on; whoever asked otherwise is returned."""
    with guests(poller, 4) as (first, second, other, longer):
        gate = Gate()
        for one in (first, second, other, longer):
            one.expect(gate, b"head", 7)
        for one, sent in zip(
            (first, second, other, longer),
            (b"headabc", b"headdef", b"heatabc", b"headabcd"),
            strict=True,
        ):
            one.far.send(sent)
        others = dict(poller.receive(5.0))
        assert others == {other: b"heatabc", longer: b"headabcd"}
        assert gate.burst is not None
        found = dict(zip(gate.burst.guests, gate.burst.bodies, strict=True))
        assert found == {first: b"abc", second: b"def"}
        assert first.waits is second.waits is gate.burst
        assert (first.since_s, other.waits) == (5.0, None)


@pytest.mark.parametrize("why", ["waits", "held", "no gate", "no head", "no token", "size"])
def test_what_may_not_join_is_returned_as_it_came(poller: Poller, why: str) -> None:
    """Python decides what becomes of it."""
    with guests(poller, 1) as (one,):
        one.expect(Gate(), b"head", 7)
        one.bucket = Bucket(1)
        match why:
            case "waits":
                one.waits = Burst()
            case "held":
                one.is_held = True
            case "no gate":
                one.gate = None
            case "no head":
                one.head = None
            case "no token":
                one.bucket = Bucket(0)
            case _:
                one.head, one.whole_size = b"headabcdef", 7
        one.far.send(b"headabc")
        assert poller.receive(1.0) == [(one, b"headabc")]


def test_no_more_is_read_than_may_wait_for_python(poller: Poller) -> None:
    """The rest stays in the kernel; who had to wait comes before who was read."""
    with guests(poller, 40) as everybody:
        for one in everybody:
            one.near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            one.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            one.far.setblocking(False)
            assert one.far.send(bytes(300_000)) > 100_000
        read: list[Guest] = []
        while told := poller.receive(1.0):
            assert sum(len(data) for _, data in told if isinstance(data, bytes)) < 1_400_000
            read += [one for one, _ in told]
            if set(everybody) <= set(read):
                break
        assert set(read) == set(everybody)
        assert max(map(read.count, everybody)) <= 3


def test_a_gate_that_fails_loses_no_bytes(poller: Poller) -> None:
    """They are returned, and the next gate gets what is its own."""

    class Broken(Gate):
        def open(self) -> Burst:
            raise RuntimeError("no room")

    with guests(poller, 2) as (one, two):
        good = Gate()
        one.expect(Broken(), b"h", 2)
        two.expect(good, b"h", 2)
        one.far.send(b"h1")
        two.far.send(b"h2")
        assert poller.receive(1.0) == [(one, b"h1")]
        assert good.burst is not None
        assert good.burst.bodies == [b"2"]


def test_the_end_and_the_failure_of_a_connection_are_told(poller: Poller) -> None:
    """No bytes, or the number of the error."""
    with guests(poller, 1) as (one,):
        one.far.close()
        assert poller.receive(1.0) == [(one, b"")]
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    near, _ = listener.accept()
    line = Line()
    line.fd = near.fileno()
    poller.add(line)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    assert poller.receive(1.0) == [(line, errno.ECONNRESET)]
    near.close()
    listener.close()


def test_an_answer_is_sent_or_returned_with_what_is_left_of_it(poller: Poller) -> None:
    """Who got all waits no more; the others are held, full, gone, or not of this poller."""
    with guests(poller, 4) as (good, held, full, gone):
        held.is_held = True
        for one in (good, held, full):
            one.waits = Burst()
        poller.remove(gone)
        foreign = object()
        everybody = [good, None, held, full, gone, foreign]
        texts = [b"a1", b"nobody", b"a2", LARGE, b"a3", b"a4"]
        left = poller.send_all(everybody, texts, 9.0)
        assert good.far.recv(10) == b"a1"
        assert (good.waits, good.since_s) == (None, 9.0)
        assert held.waits is not None
        assert full.waits is not None
        assert [one for one, _ in left] == [held, full, gone, foreign]
        assert [text for _, text in left if len(text) < 9] == [b"a2", b"a3", b"a4"]
        rest = left[1][1]
        assert 0 < len(rest) < len(LARGE)
        poller.watch(full, False, True)
        assert poller.receive(9.0) == []
        full.far.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while full.far.recv(1 << 20):
                pass
        assert poller.receive(9.0) == [(full, None)]


def test_misuse_is_refused(poller: Poller) -> None:
    """A line is added once, and only its own poller knows it."""
    with guests(poller, 1) as (one,):
        with pytest.raises(ValueError, match="there is a line"):
            poller.add(one)
        with pytest.raises(ValueError, match="file descriptor"):
            poller.add(Line())
        poller.remove(one)
        for call in (poller.remove, lambda line: poller.watch(line, True, True)):
            with pytest.raises(ValueError, match="not a line of this poller"):
                call(one)
        with pytest.raises(ValueError, match="as many answers"):
            poller.send_all([one], [], 1.0)
        with pytest.raises(TypeError):
            poller.send_all([one], ["text"], 1.0)  # type: ignore[list-item]
        with pytest.raises(TypeError):
            poller.receive("now")  # type: ignore[arg-type]
        stale = Line()
        stale.fd = 1_000_000_000
        with pytest.raises(OSError, match="Bad file descriptor"):
            poller.add(stale)


def test_lines_are_let_go_of(poller: Poller) -> None:
    """A line in a circle with its gate is collected once it was removed."""

    class Kept(Gate):
        line: Guest

    one = Guest(poller)
    gate = Kept()
    gate.line = one
    one.expect(gate, b"h", 2)
    seen = weakref.ref(one)
    poller.remove(one)
    one.shut()
    del one, gate
    gc.collect()
    assert seen() is None
