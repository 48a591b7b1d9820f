"""Decides which fragment to ask of which relay now: any k of n, bounded batches, no I/O.

Source: docs/spec/collection.md; bistro.protocol.collection.
"""

from __future__ import annotations

from collections.abc import Collection as Group
from collections.abc import Iterable, Mapping
from typing import Final

from bistro.errors import UnavailableError
from bistro.instant import UnixMillis
from bistro.protocol.collection import Source
from bistro_server.store.collection import Staged

BATCH_ITEMS: Final = 1_000
BATCH_BYTES: Final = 67_108_864
"""What is asked of a relay at once; a single larger fragment is asked for alone."""
PATIENCE_MS: Final = 600_000
"""How long a relay may be silent before filers are asked to stage its fragments elsewhere."""
SMALL_BYTES: Final = 262_144
FILES_AT_ONCE: Final = 32
_MS_PER_S: Final = 1_000
_PENALTY: Final = 1 << 50
"""Bytes that a slow relay is taken to have waiting: others come first, where there are any."""


def plan_batches(
    page: Iterable[Staged], *, down: Group[str], slow: Group[str]
) -> dict[str, list[tuple[Staged, Source]]]:
    """A batch for each relay that has something to give.

    Args:
        page: Submissions that are not concluded.
        down: Relays not to ask now.
        slow: Relays to ask only for what nobody else has.
    """
    backlog = dict.fromkeys(slow, _PENALTY)
    batches: dict[str, list[tuple[Staged, Source]]] = {}
    for staged in page:
        size = staged.layout.fragment_size
        for source in staged.collection().wanted(backlog=backlog, down=down):
            batch = batches.setdefault(source.relay, [])
            waiting = backlog.get(source.relay, 0)
            is_full = len(batch) >= BATCH_ITEMS or waiting % _PENALTY + size > BATCH_BYTES
            if not batch or not is_full:
                batch.append((staged, source))
                backlog[source.relay] = waiting + size
    return batches


def restorable(page: Iterable[Staged]) -> list[list[Staged]]:
    """Submissions whose fragments are here, in groups to restore side by side.

    Small envelopes are taken together, a large one by itself: neither memory nor the number of
    open files grows.
    """
    ready = [staged for staged in page if not staged.collection().missing_count]
    small = [staged for staged in ready if staged.layout.envelope_size <= SMALL_BYTES]
    count = max(1, FILES_AT_ONCE // max((one.layout.k for one in small), default=1))
    groups = [small[at : at + count] for at in range(0, len(small), count)]
    return [*groups, *([one] for one in ready if one.layout.envelope_size > SMALL_BYTES)]


def silent_since(
    failure: UnavailableError, *, now: UnixMillis, repair_by: UnixMillis
) -> UnixMillis:
    """From when on a relay that failed now counts as silent.

    One that says when to come back is believed up to a quarter of the time left: a pause of its
    operator loses nothing, and who always says so gains no more than that.
    """
    announced_ms = round((failure.retry_after_s or 0) * _MS_PER_S)
    return UnixMillis(now + min(announced_ms, max(repair_by - now, 0) // 4))


def missing_fragments(
    staged: Staged,
    silences: Mapping[str, UnixMillis],
    *,
    now: UnixMillis,
    repair_by: UnixMillis,
) -> tuple[int, ...]:
    """Indexes that the filer should stage again: fewer than k can be had.

    A relay that has been silent for long counts as one that lost everything; how long is less
    the nearer ``repair_by`` is, since afterwards nobody can help any more.
    """
    patience_ms = min(PATIENCE_MS, max(repair_by - now, 0) // 4)
    silent = {relay for relay, since in silences.items() if now - since >= patience_ms}
    collection = staged.collection()
    lost = (source for source in collection.sources if source.relay in silent)
    return collection.lose(*lost).repairs()
