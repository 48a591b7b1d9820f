"""Token buckets and whose they are."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.daemon.buckets import WIDER, Bucket, Buckets, Rate
from bistro.daemon.peers import UNKNOWN, Peers
from bistro.errors import OverloadedError

RATE = Rate(per_s=10.0, burst=20)
PROXIES = [ipaddress.ip_network("127.0.0.1"), ipaddress.ip_network("10.1.0.0/16")]


def test_a_full_bucket_gives_a_burst_and_then_its_rate() -> None:
    """Twenty at once, then one every tenth of a second, for ever."""
    bucket = Bucket(RATE)
    assert bucket.take(20, 100.0) == 0.0
    assert bucket.take(1, 100.0) == pytest.approx(0.1)
    for tenth in range(1, 1_000):
        now_s = 100.0 + tenth / 10
        assert bucket.take(1, now_s) == 0.0
        assert bucket.take(1, now_s) == pytest.approx(0.1)


def test_all_tokens_are_taken_or_none() -> None:
    """Who is told to wait has paid nothing, and gets them when told."""
    bucket = Bucket(RATE)
    assert bucket.take(15, 0.0) == 0.0
    wait_s = bucket.take(15, 0.0)
    assert wait_s == pytest.approx(1.0)
    assert bucket.take(5, 0.0) == 0.0
    assert bucket.take(15, wait_s) > 0
    assert bucket.take(15, 1.5) == 0.0


def test_more_than_a_bucket_holds_is_never_there() -> None:
    """However long one waits."""
    assert Bucket(RATE).take(21, 1e6) > 0


def test_nothing_is_taken_unless_the_wider_bucket_has_it_too() -> None:
    """Two share what is wider; who is refused by it keeps its own."""
    wider = Bucket(Rate(10.0, 30))
    one, two = Bucket(RATE, wider), Bucket(RATE, wider)
    assert one.take(20, 0.0) == 0.0
    assert two.take(20, 0.0) == pytest.approx(1.0)
    assert two.take(10, 0.0) == 0.0
    assert two.take(20, 2.0) == 0.0


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(1, 20)), max_size=100),
)
def test_never_more_than_burst_and_rate_allow(asked: list[tuple[float, int]]) -> None:
    """In any stretch of time, whatever is asked when."""
    bucket, now_s = Bucket(RATE), 5.0
    granted: list[tuple[float, int]] = []
    for pause_s, count in asked:
        now_s += pause_s
        if bucket.take(count, now_s) == 0.0:
            granted.append((now_s, count))
    for at, (since_s, _) in enumerate(granted):
        total = 0
        for until_s, count in granted[at:]:
            total += count
            assert total <= RATE.burst + RATE.per_s * (until_s - since_s) + 1e-3


def test_a_bounded_number_of_buckets_is_kept_the_last_seen() -> None:
    """Whoever was forgotten begins with a full one."""
    buckets: Buckets[str] = Buckets(RATE, kept=3)
    assert buckets.of("a").take(20, 0.0) == 0.0
    for name in ("b", "a", "c", "d"):
        buckets.of(name)
    assert len(buckets) == 3
    assert buckets.of("a").take(20, 0.0) > 0
    for name in "bcd":
        buckets.of(name)
    assert buckets.of("a").take(20, 0.0) == 0.0


@pytest.mark.parametrize(
    ("peer", "forwarded", "name"),
    [
        ("192.0.2.7", "", "192.0.2.7"),
        ("::ffff:192.0.2.7", "", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "", "fe80::/64"),
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("127.0.0.1", "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        ("127.0.0.1", "203.0.113.5, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.5, 198.51.100.1,10.1.2.3", "198.51.100.1"),
        ("127.0.0.1", "", ""),
        ("127.0.0.1", "10.1.2.3", ""),
        ("127.0.0.1", "198.51.100.1, nonsense", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1,", "127.0.0.1"),
        ("127.0.0.1", "nonsense, 10.1.2.3", "10.1.2.3"),
        ("nonsense", "198.51.100.1", ""),
        ("", "", ""),
    ],
)
def test_who_counts_as_one(peer: str, forwarded: str, name: str) -> None:
    """Only trusted proxies are believed, and only what the last of them saw."""
    assert Peers(PROXIES, RATE).name(peer, forwarded)[0] == name


def test_a_proxy_that_names_nobody_is_not_limited() -> None:
    """Its address would be everybody's; so it is with a Unix socket."""
    peers = Peers(PROXIES, RATE)
    assert peers.who("127.0.0.1") == peers.who("") == UNKNOWN
    assert peers.who("127.0.0.2").bucket is not None
    assert Peers(PROXIES).who("127.0.0.2") == UNKNOWN, "no rate, no limits"


async def test_a_bucket_without_enough_tokens_says_when_to_come_back() -> None:
    """All or none of them; who has no bucket is not limited, and those turned away are counted."""
    counts: list[int] = []
    peers = Peers(PROXIES, RATE, report=counts.append)
    bucket = peers.who("192.0.2.7").bucket
    peers.require_tokens(bucket, RATE.burst - 1)
    with pytest.raises(OverloadedError, match="your address") as caught:
        peers.require_tokens(bucket, 2)
    assert (caught.value.retry_after_s or 0) > 0
    peers.require_tokens(bucket, 1)
    peers.require_tokens(None, 10 * RATE.burst)
    assert counts == [2]


def test_networks_of_one_site_share_a_wider_bucket() -> None:
    """Else one site of IPv6 would be 65,536 addresses."""
    peers, total = Peers(PROXIES, RATE), 0
    for number in range(WIDER + 5):
        bucket = peers.who(f"2001:db8:1:{number:x}::1").bucket
        assert bucket is not None
        total += RATE.burst if bucket.take(RATE.burst, 0.0) == 0.0 else 0
    assert total == WIDER * RATE.burst
    other = peers.who("2001:db8:2::1").bucket
    assert other is not None
    assert other.take(RATE.burst, 0.0) == 0.0
