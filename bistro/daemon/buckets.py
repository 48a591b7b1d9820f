"""Token buckets: how much one address, or one filer, may ask for, at a steady rate with bursts.

A bucket is one number, the moment at which it will be full again (the generic cell rate
algorithm), so taking costs a comparison and nothing has to run in the background. Buckets of the
last seen names are kept, a bounded number of them; one that is forgotten begins anew, full.

Source: docs/spec/ticketing.md, fairness; docs/decisions/0014-own-token-buckets.md.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

KEPT: Final = 65_536
"""Buckets that are kept: about 12 MB of them."""

WIDER: Final = 16
"""How much more all addresses of an IPv6 site get than one of its networks."""

_ROUNDING_S: Final = 1e-9
"""The last token of a full bucket is one, although sums of floats are not exact."""

NameT = TypeVar("NameT", str, bytes)


@dataclass(frozen=True, slots=True)
class Rate:
    """What a bucket holds and how fast it fills.

    Attributes:
        per_s: Tokens a second.
        burst: Tokens of a full bucket.
    """

    per_s: float
    burst: int

    def times(self, factor: int) -> Rate:
        """So much more of both."""
        return Rate(self.per_s * factor, self.burst * factor)


class Bucket:
    """One bucket; full when it is made.

    Args:
        rate: What it holds and how fast it fills.
        wider: A bucket that others take from as well; nothing is taken unless both have it.
    """

    __slots__ = ("_full_at_s", "_span_s", "_token_s", "_wider")

    def __init__(self, rate: Rate, wider: Bucket | None = None) -> None:
        self._token_s = 1.0 / rate.per_s
        self._span_s = rate.burst / rate.per_s
        self._full_at_s = 0.0
        self._wider = wider

    def take(self, count: int, now_s: float) -> float:
        """Take tokens, all or none.

        Args:
            count: How many; more than a full bucket holds are never there.
            now_s: The time, of any clock that does not go back.

        Returns:
            0.0 if they were taken; otherwise the seconds until they will be there.
        """
        full_at_s = self._full_at_s
        begin_s = full_at_s if full_at_s > now_s else now_s  # noqa: FURB136 - a call costs more
        after_s = begin_s + count * self._token_s
        wait_s = after_s - now_s - self._span_s
        if wait_s > _ROUNDING_S:
            return wait_s
        if self._wider is not None:
            wait_s = self._wider.take(count, now_s)
            if wait_s:
                return wait_s
        self._full_at_s = after_s
        return 0.0


class Buckets(Generic[NameT]):
    """The buckets of the names that were seen last.

    Args:
        rate: Of each.
        kept: How many are kept.
    """

    def __init__(self, rate: Rate, *, kept: int = KEPT) -> None:
        self._rate = rate
        self._kept = kept
        self._known: OrderedDict[NameT, Bucket] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept now."""
        return len(self._known)

    def of(self, name: NameT, wider: Bucket | None = None) -> Bucket:
        """The bucket of a name; ``wider`` counts for one that is new."""
        known = self._known
        bucket = known.get(name)
        if bucket is None:
            if len(known) >= self._kept:
                known.popitem(last=False)
            bucket = known[name] = Bucket(self._rate, wider)
        else:
            known.move_to_end(name)
        return bucket
