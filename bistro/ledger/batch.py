"""A batch in the making: which claims and lots become entries, at which time; and telling them.

Source: docs/spec/ticketing.md, the batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from bistro.errors import BistroError, FormatError, OverloadedError
from bistro.instant import UnixMillis
from bistro.ledger.appended import Stamped
from bistro.ledger.claims import Claim, Lot
from bistro.ledger.record import MAX_KEY_SIZE
from bistro.wire.entry import MAX_ENTRY_SIZE

Waiting = Claim | Lot

NO_KEY: Final = b""


class Batch:
    """Claims and lots that are stamped together.

    Args:
        previous: Time of the ledger's last entry.
        now: The time now.
        max_wait_ms: Who has waited longer is not stamped; ``None``: no limit.

    Attributes:
        keys: Of the new entries; empty where one has none.
        entries: The new entries.
        time: Time of the last of them, or of the entry before.
        refused: How many were answered with an error, by its code.
    """

    def __init__(self, previous: UnixMillis, now: UnixMillis, max_wait_ms: int | None) -> None:
        self.keys: list[bytes] = []
        self.entries: list[bytes] = []
        self.time = previous
        self.refused: Counter[str] = Counter()
        self._now = now
        self._oldest = 0 if max_wait_ms is None else now - max_wait_ms
        self._new: list[tuple[Waiting, int]] = []
        self._by_key: dict[bytes, int] = {}
        self._repeated: list[tuple[Claim, int]] = []

    def stamp(self, waiting: Sequence[Waiting]) -> None:
        """Make each entries, the repetition of one, or answer it with an error; in order.

        Only claims repeat keys: see ``part_repeated``.
        """
        has_claims = any(isinstance(one, Claim) for one in waiting)
        for one in waiting:
            if isinstance(one, Claim) and one.key is not None and one.key in self._by_key:
                self._repeated.append((one, self._by_key[one.key]))
                continue
            time = max(self.time, one.received_at)
            try:
                if one.received_at < self._oldest:
                    raise self._overloaded(one.received_at)
                keys, entries = _build(one, time)
            except BistroError as exc:
                # The one refusal concerns nobody else, and does not move the time.
                one.decline(exc)
                self.refused[exc.code] += one.count
                continue
            begin = len(self.entries)
            if has_claims:
                self._by_key.update(zip(keys, range(begin, begin + len(keys)), strict=True))
                self._by_key.pop(NO_KEY, None)
            self._new.append((one, begin))
            self.keys += keys
            self.entries += entries
            self.time = time

    def _overloaded(self, received_at: UnixMillis) -> OverloadedError:
        waited_ms, limit_ms = self._now - received_at, self._now - self._oldest
        return OverloadedError(
            f"waited {waited_ms} ms, expected at most {limit_ms} ms", retry_after_s=1.0
        )

    def prepare(self, stamped: Stamped) -> None:
        """Let lots prepare for ``settle``, before anything is durable."""
        for one, begin in self._new:
            if isinstance(one, Lot):
                one.prepare(stamped, begin)

    def settle(self, stamped: Stamped) -> None:
        """Tell what is durable: first to those who set rules, then to those who wait."""
        last, at = self._new[-1]
        if isinstance(last, Claim) and last.is_barrier:
            last.confirm(stamped[at])
        for one, begin in self._new:
            if isinstance(one, Lot):
                one.tell(stamped, begin)
            else:
                one.tell(stamped[begin])
        for claim, at in self._repeated:
            claim.tell(replace(stamped[at], is_duplicate=True))


def _build(one: Waiting, time: UnixMillis) -> tuple[Sequence[bytes], Sequence[bytes]]:
    if isinstance(one, Lot):
        return one.keys, one.build(time)
    key, entry = one.key, one.build(time)
    if not 0 < len(entry) <= MAX_ENTRY_SIZE:
        raise FormatError(f"entry: 1 to {MAX_ENTRY_SIZE} bytes, found {len(entry)}")
    if key is not None and not 0 < len(key) <= MAX_KEY_SIZE:
        raise FormatError(f"key: expected 1 to {MAX_KEY_SIZE} bytes, found {len(key)}")
    return (NO_KEY if key is None else key,), (entry,)


def keys_of(waiting: Iterable[Waiting]) -> list[bytes]:
    """The keys of all."""
    keys: list[bytes] = []
    for one in waiting:
        if isinstance(one, Lot):
            keys += one.keys
        elif one.key is not None:
            keys.append(one.key)
    return keys


def part_known(
    waiting: Iterable[Waiting], known: Mapping[bytes, int]
) -> tuple[list[Waiting], list[tuple[Claim, int]]]:
    """Those whose keys are new, and claims of all others with the index of their entry."""
    new: list[Waiting] = []
    repeated: list[tuple[Claim, int]] = []
    for one in waiting:
        if isinstance(one, Lot):
            positions = [at for at, key in enumerate(one.keys) if key in known]
            if positions:
                indexes = [known[one.keys[at]] for at in positions]
                repeated += zip(one.part(positions), indexes, strict=True)
            if one.count:
                new.append(one)
        elif one.key is not None and one.key in known:
            repeated.append((one, known[one.key]))
        else:
            new.append(one)
    return new, repeated


def part_repeated(waiting: Sequence[Waiting]) -> list[Waiting]:
    """The same in which no lot has a key that stands in it twice, or before it."""
    parted: list[Waiting] = []
    seen: set[bytes] = set()
    for one in waiting:
        if isinstance(one, Claim):
            parted.append(one)
            if one.key is not None:
                seen.add(one.key)
            continue
        positions: list[int] = []
        for at, key in enumerate(one.keys):
            if key in seen:
                positions.append(at)
            seen.add(key)
        claims = one.part(positions) if positions else []
        if one.count:
            parted.append(one)
        parted += claims
    return parted
