"""The budget of bytes of requests that are not whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bistro.daemon.addresses import Addresses
from bistro.daemon.unfinished import Unfinished


class Sender:
    """Somebody who holds bytes, and remembers that it had to give up."""

    def __init__(self) -> None:
        self.is_given_up = False

    def give_up(self) -> None:
        self.is_given_up = True


def test_the_oldest_of_the_address_that_holds_most_gives_up() -> None:
    """Whoever holds little is not pushed out by who holds much."""
    unfinished = Unfinished(100)
    small, first, second = Sender(), Sender(), Sender()
    unfinished.hold(small, "small", 30)
    unfinished.hold(first, "greedy", 30)
    unfinished.hold(second, "greedy", 35)
    unfinished.hold(first, "greedy", 36)
    assert [one.is_given_up for one in (small, first, second)] == [False, True, False]
    assert unfinished.size == 65


def test_what_is_released_is_free_for_others() -> None:
    """Once, however often it is released."""
    unfinished = Unfinished(100)
    one, other = Sender(), Sender()
    unfinished.hold(one, "a", 90)
    unfinished.release(one, "a")
    unfinished.release(one, "a")
    unfinished.hold(other, "b", 100)
    assert (unfinished.size, other.is_given_up) == (100, False)


def test_a_single_request_beyond_the_limit_gives_up_itself() -> None:
    """Then nothing is held."""
    unfinished, one = Unfinished(100), Sender()
    unfinished.hold(one, "a", 101)
    assert one.is_given_up
    assert unfinished.size == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_any_order_of_growing_and_ending_keeps_within_the_limit(
    steps: list[tuple[int, int]],
) -> None:
    """And what is counted is what is held by those who did not give up."""
    unfinished = Unfinished(100)
    senders = [Sender() for _ in range(10)]
    held: dict[int, int] = {}
    for number, size in steps:
        sender, address = senders[number], str(number % 3)
        if size == 0:
            unfinished.release(sender, address)
            held.pop(number, None)
        elif not sender.is_given_up:
            held[number] = size
            unfinished.hold(sender, address, size)
        held = {at: size for at, size in held.items() if not senders[at].is_given_up}
        assert unfinished.size == sum(held.values()) <= 100


def test_connections_have_a_limit_and_one_address_half_of_it() -> None:
    """Whoever leaves makes room."""
    addresses = Addresses(4)
    mine = [addresses.enter("a"), addresses.enter("a")]
    assert addresses.enter("a") is None
    assert mine[0] is mine[1]
    assert addresses.enter("b") is not None
    assert addresses.enter("c") is not None
    assert addresses.enter("d") is None
    assert mine[0] is not None
    addresses.leave(mine[0])
    assert addresses.enter("a") is mine[0]
