"""What the destination still needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bistro.errors import BistroError, ConflictError, FormatError
from bistro.instant import UnixMillis
from bistro.protocol.collection import Collection, CollectionState, Source

HOLD = UnixMillis(1_000)


def staged(*sources: tuple[int, str], k: int = 2, n: int = 3) -> Collection:
    collection = Collection.begin(k=k, n=n)
    for index, relay in sources:
        collection = collection.offer(Source(index, relay), HOLD)
    return collection


def test_k_verified_fragments_make_it_restorable_and_end_the_fetching() -> None:
    """The other n - k are not fetched, but released."""
    collection = staged((0, "a"), (1, "b"), (2, "c"))
    assert collection.staged_indexes == {0, 1, 2}
    assert collection.wanted() == (Source(0, "a"), Source(1, "b"))
    collection = collection.verify(0)
    assert collection.wanted() == (Source(1, "b"),)
    collection = collection.verify(1)
    assert collection.state is CollectionState.RESTORABLE
    assert (collection.wanted(), collection.missing_count) == ((), 0)
    assert collection.releasable() == ()
    collection = collection.restored()
    assert collection.releasable() == (Source(0, "a"), Source(1, "b"), Source(2, "c"))


def test_data_fragments_are_preferred_and_short_queues_more() -> None:
    """Data fragments restore without computing; a busy relay is spared."""
    collection = staged((0, "a"), (1, "b"), (2, "c"))
    assert collection.wanted(backlog={"a": 10}) == (Source(1, "b"), Source(2, "c"))
    assert collection.wanted(down={"b"}) == (Source(0, "a"), Source(2, "c"))
    assert collection.wanted(down={"b", "c"}) == (Source(0, "a"),)


def test_a_fragment_is_fetched_from_one_relay_only() -> None:
    """Two copies of one index are worth one."""
    collection = staged((0, "a"), (0, "b"))
    assert collection.wanted() == (Source(0, "a"),)
    assert collection.wanted(backlog={"a": 1}) == (Source(0, "b"),)


def test_wrong_bytes_count_as_lost_and_stay_on_record() -> None:
    """The relay is not asked again, even if it announces the fragment once more."""
    liar = Source(0, "a")
    collection = staged((0, "a"), (1, "b"), (2, "c")).distrust(liar)
    assert collection.wanted() == (Source(1, "b"), Source(2, "c"))
    assert collection.offer(liar, HOLD).wanted() == (Source(1, "b"), Source(2, "c"))
    assert collection.wrong == {liar}
    assert collection.offer(Source(0, "d"), HOLD).wanted()[0] == Source(0, "d")


def test_a_relay_that_has_it_again_is_asked_again() -> None:
    """Lost is what is known so far."""
    collection = staged((0, "a"), (1, "b")).lose(Source(0, "a"))
    assert collection.wanted() == (Source(1, "b"),)
    assert len(collection.offer(Source(0, "a"), HOLD).wanted()) == 2


def test_repairs_are_asked_for_when_fewer_than_k_can_be_had() -> None:
    """All gone indexes are named: the filer stages the same bytes again."""
    collection = staged((0, "a"), (1, "b"), (2, "c")).lose(Source(0, "a"))
    assert collection.repairs() == ()
    collection = collection.lose(Source(2, "c"))
    assert collection.repairs() == (0, 2)
    assert collection.verify(1).repairs() == (0, 2)
    assert collection.verify(1).verify(0).repairs() == ()


def test_a_hold_is_remembered_at_its_longest() -> None:
    """A relay's promise only grows."""
    source = Source(0, "a")
    collection = staged((0, "a")).offer(source, UnixMillis(5_000)).offer(source, UnixMillis(2_000))
    assert collection.holds[source] == 5_000


def test_a_late_fragment_is_only_released() -> None:
    """After collection nothing is fetched."""
    collection = staged((0, "a"), (1, "b")).verify(0).verify(1).restored()
    collection = collection.offer(Source(2, "c"), HOLD).verify(2)
    assert collection.wanted() == ()
    assert Source(2, "c") in collection.releasable()
    assert collection.is_concluded


def test_conclusions_wait_for_k_fragments_and_do_not_change() -> None:
    """Void and collected exclude each other; repeating one is harmless."""
    with pytest.raises(ConflictError):
        staged((0, "a")).restored()
    void = staged((0, "a"), (1, "b")).verify(0).verify(1).found_inconsistent()
    assert void.found_inconsistent() == void
    assert void.repairs() == ()
    with pytest.raises(ConflictError):
        void.restored()


def test_an_index_that_is_none_is_malformed() -> None:
    """The layout says how many there are."""
    with pytest.raises(FormatError):
        staged((3, "a"))
    with pytest.raises(FormatError):
        staged().verify(3)


class CollectionMachine(RuleBasedStateMachine):
    """Any events in any order, any number of times."""

    def __init__(self) -> None:
        super().__init__()
        self.collection = Collection.begin(k=2, n=4)

    def attempt(self, event: Callable[[], Collection]) -> None:
        before = self.collection
        try:
            self.collection = event()
        except BistroError:
            assert self.collection is before
        else:
            assert event() == self.collection, "repeated, it changes nothing"
        assert self.collection.verified >= before.verified
        assert self.collection.wrong >= before.wrong
        if before.is_concluded:
            assert self.collection.state is before.state

    @rule(index=st.integers(0, 3), relay=st.sampled_from("abc"), hold=st.integers(0, 9))
    def offer(self, index: int, relay: str, hold: int) -> None:
        self.attempt(lambda: self.collection.offer(Source(index, relay), UnixMillis(hold)))

    @rule(index=st.integers(0, 3))
    def verify(self, index: int) -> None:
        self.attempt(lambda: self.collection.verify(index))

    @rule(index=st.integers(0, 3), relay=st.sampled_from("abc"), is_wrong=st.booleans())
    def lose(self, index: int, relay: str, *, is_wrong: bool) -> None:
        source = Source(index, relay)
        self.attempt(
            lambda: self.collection.distrust(source) if is_wrong else self.collection.lose(source)
        )

    @rule(is_good=st.booleans())
    def conclude(self, *, is_good: bool) -> None:
        self.attempt(self.collection.restored if is_good else self.collection.found_inconsistent)

    @invariant()
    def what_is_wanted_is_useful(self) -> None:
        collection = self.collection
        wanted = collection.wanted()
        assert len({source.index for source in wanted}) == len(wanted) <= collection.missing_count
        assert not {source.index for source in wanted} & collection.verified
        assert not set(wanted) & (collection.lost | collection.wrong)
        can_finish = len(wanted) == collection.missing_count
        assert can_finish == (not collection.repairs())
        if collection.is_concluded:
            assert len(collection.verified) >= collection.k


TestCollectionMachine = CollectionMachine.TestCase
TestCollectionMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
