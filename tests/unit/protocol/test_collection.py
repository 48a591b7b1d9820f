"""What the destination still needs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bistro.protocol.collection import Collection, Source

SOURCES = st.builds(Source, st.integers(0, 3), st.sampled_from("abc"))


def staged(
    *sources: tuple[int, str], verified: frozenset[int] = frozenset(), k: int = 2
) -> Collection:
    return Collection(k, 3, frozenset(Source(*source) for source in sources), verified)


def test_k_verified_fragments_end_the_fetching() -> None:
    """The other n - k are not fetched."""
    every = (0, "a"), (1, "b"), (2, "c")
    assert staged(*every).wanted() == (Source(0, "a"), Source(1, "b"))
    assert staged(*every, verified=frozenset({0})).wanted() == (Source(1, "b"),)
    for verified in (frozenset({0, 1}), frozenset({0, 1, 2})):
        collection = staged(*every, verified=verified)
        assert (collection.wanted(), collection.missing_count) == ((), 0)


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


def test_a_relay_that_lost_a_fragment_is_not_asked_for_it() -> None:
    """Another that has it is."""
    collection = staged((0, "a"), (1, "b"), (2, "c")).lose(Source(0, "a"))
    assert collection.wanted() == (Source(1, "b"), Source(2, "c"))
    collection = staged((0, "a"), (0, "d"), (1, "b")).lose(Source(0, "a"))
    assert collection.wanted() == (Source(0, "d"), Source(1, "b"))


def test_repairs_are_asked_for_when_fewer_than_k_can_be_had() -> None:
    """All gone indexes are named: the filer stages the same bytes again."""
    every = (0, "a"), (1, "b"), (2, "c")
    gone = Source(0, "a"), Source(2, "c")
    assert staged(*every).lose(gone[0]).repairs() == ()
    assert staged(*every).lose(*gone).repairs() == (0, 2)
    assert staged(*every, verified=frozenset({1})).lose(*gone).repairs() == (0, 2)
    assert staged(*every, verified=frozenset({0, 1})).lose(*gone).repairs() == ()


@given(
    st.frozensets(SOURCES),
    st.frozensets(st.integers(0, 3)),
    st.frozensets(SOURCES),
    st.frozensets(st.sampled_from("abc")),
)
def test_what_is_wanted_is_useful(
    sources: frozenset[Source],
    verified: frozenset[int],
    lost: frozenset[Source],
    down: frozenset[str],
) -> None:
    """Nothing is fetched twice, nor in vain; who has to wait for nobody asks for repairs."""
    collection = Collection(2, 4, sources, verified, lost)
    wanted = collection.wanted()
    indexes = {source.index for source in wanted}
    assert len(indexes) == len(wanted) <= collection.missing_count
    assert not indexes & verified
    assert set(wanted) <= sources - lost
    assert (len(wanted) == collection.missing_count) == (not collection.repairs())
    assert not {source.relay for source in collection.wanted(down=down)} & down
