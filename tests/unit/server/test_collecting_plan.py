"""Which fragment is asked of which relay, and when filers are asked for help."""

from __future__ import annotations

from bistro.errors import UnavailableError
from bistro.instant import UnixMillis
from bistro.protocol.collection import Source
from bistro.wire.fragment import Layout
from bistro_server.services.collecting_plan import (
    BATCH_BYTES,
    BATCH_ITEMS,
    PATIENCE_MS,
    missing_fragments,
    plan_batches,
    restorable,
    silent_since,
)
from bistro_server.store.collection import Fate, FragmentRow, Staged

FAR = UnixMillis(10**12)


def staged(
    number: int = 0, *rows: tuple[int, str, Fate], size: int = 1_000, k: int = 2, n: int = 3
) -> Staged:
    layout = Layout(bytes(32), size, k, n)
    found = tuple(FragmentRow(Source(index, relay), fate) for index, relay, fate in rows)
    return Staged(number, number.to_bytes(32, "big"), number, bytes(32), layout, found)


ALL: tuple[tuple[int, str, Fate], ...] = (
    (0, "a", "announced"),
    (1, "b", "announced"),
    (2, "c", "announced"),
)


def asked(page: list[Staged], down: set[str], slow: set[str]) -> dict[str, int]:
    return {name: len(batch) for name, batch in plan_batches(page, down=down, slow=slow).items()}


def test_work_is_spread_over_all_relays() -> None:
    """Any k of n: no relay gives a third more than another."""
    page = [staged(number, *ALL) for number in range(30)]
    counts = asked(page, set(), set())
    assert sum(counts.values()) == 60
    assert set(counts.values()) == {20}


def test_relays_that_are_down_are_passed_over() -> None:
    """The others are asked instead, as far as they reach."""
    assert asked([staged(1, *ALL)], {"a"}, set()) == {"b": 1, "c": 1}
    assert asked([staged(1, *ALL)], {"a", "b"}, set()) == {"c": 1}


def test_slow_relays_are_asked_only_for_what_nobody_else_has() -> None:
    """A slow one must not hold up what others could give."""
    assert asked([staged(1, *ALL)], set(), {"a"}) == {"b": 1, "c": 1}
    assert asked([staged(1, *ALL[:2])], set(), {"a"}) == {"a": 1, "b": 1}


def test_batches_are_bounded() -> None:
    """In items and in bytes; a fragment larger than a batch is asked for alone."""
    small = [staged(number, (0, "a", "announced")) for number in range(BATCH_ITEMS + 50)]
    assert asked(small, set(), set()) == {"a": BATCH_ITEMS}
    half = BATCH_BYTES  # k = 2: a fragment is half of it
    large = [staged(number, (0, "a", "announced"), size=half) for number in range(9)]
    assert asked(large, set(), set()) == {"a": 2}
    huge = [staged(number, (0, "a", "announced"), size=8 * half) for number in range(9)]
    assert asked(huge, set(), set()) == {"a": 1}


def test_nothing_is_asked_for_twice_or_of_who_gave_wrong_bytes() -> None:
    """Verified indexes are here; wrong and lost sources are given up."""
    rows: tuple[tuple[int, str, Fate], ...] = (
        (0, "a", "verified"),
        (1, "b", "wrong"),
        (1, "c", "lost"),
        (2, "c", "announced"),
    )
    assert asked([staged(1, *rows)], set(), set()) == {"c": 1}


def test_filers_are_asked_when_a_silence_lasts() -> None:
    """Not at once, and sooner the nearer repair_by is."""
    since = {"b": UnixMillis(1_000)}
    one = staged(1, *ALL[:2])

    def missing(now: int, repair_by: int) -> tuple[int, ...]:
        return missing_fragments(one, since, now=UnixMillis(now), repair_by=UnixMillis(repair_by))

    assert missing(2_000, FAR) == ()
    assert missing(1_000 + PATIENCE_MS, FAR) == (1, 2)
    assert missing(2_000, 5_000) == (1, 2)
    assert missing(2_000, 50_000) == ()
    assert missing_fragments(staged(1, *ALL), since, now=FAR, repair_by=FAR) == ()


def test_who_says_when_to_come_back_is_believed_for_a_while() -> None:
    """A pause loses nothing; who always says so gains at most a quarter of the time left."""
    now, repair_by = UnixMillis(1_000_000), UnixMillis(1_000_000 + 4 * 3_600_000)

    def since(retry_after_s: float | None, at: UnixMillis = now) -> int:
        failure = UnavailableError("x", retry_after_s=retry_after_s)
        return silent_since(failure, now=at, repair_by=repair_by) - at

    assert since(None) == 0
    assert since(1_800) == 1_800_000
    assert since(86_400) == 3_600_000
    assert since(86_400, UnixMillis(repair_by + 1)) == 0
    rests = {"b": UnixMillis(now + 1_800_000)}
    one = staged(1, *ALL[:2])
    for at, missing in ((PATIENCE_MS, ()), (1_800_000 + PATIENCE_MS, (1, 2))):
        found = missing_fragments(one, rests, now=UnixMillis(now + at), repair_by=repair_by)
        assert found == missing


def test_small_envelopes_are_restored_together_and_large_ones_alone() -> None:
    """Neither memory nor open files grow with the number or the size of submissions."""
    ready: tuple[tuple[int, str, Fate], ...] = ((0, "a", "verified"), (1, "b", "verified"))
    page = [staged(number, *ready) for number in range(40)]
    page += [staged(100 + number, *ready, size=1 << 30) for number in range(2)]
    page += [staged(200, *ALL)]
    assert [len(group) for group in restorable(page)] == [16, 16, 8, 1, 1]
    many: list[tuple[int, str, Fate]] = [(index, "a", "verified") for index in range(200)]
    wide = [staged(number, *many, k=200, n=255) for number in range(3)]
    assert [len(group) for group in restorable(wide)] == [1, 1, 1]
