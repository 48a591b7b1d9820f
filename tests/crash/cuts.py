"""Power cuts: at some moments of a trace, what the disk would have kept, as folders.

``kill -9`` loses no page that was written; a power cut does. So the trace of a life is replayed
on a copy of the folder it began with, up to a moment, and of what was not durable then some is
lost. One life gives many cuts.
"""

from __future__ import annotations

import random  # noqa: TID251 - passed in, seeded
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.crash.connections import Left
from tests.crash.medium import Change, Keeps, adopt, differences, scan, write_out
from tests.crash.replaying import Replay, UnexplainedError
from tests.crash.traces import CHANGES, SENDS, STARTS, Event

LOSSES: Final = ("everything", "nothing", "some", "most", "one", "the newest")
"""What of the changes that were not durable is lost."""

_SYNCS: Final = frozenset({"fdatasync", "fsync"})
_NAMES: Final = frozenset({"rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir"})
_END: Final = 1 << 62
"""Later than anything."""
_SHARES: Final = {"some": 0.5, "most": 0.9, "one": 0.03}


@dataclass(frozen=True, slots=True)
class Cut:
    """A moment at which the power fails.

    Attributes:
        at: Events before it have happened.
        loss: One of ``LOSSES``.
        left: What had left before.
    """

    at: int
    loss: str
    left: Left


def draw_cuts(events: Sequence[Event], chance: random.Random, count: int) -> list[tuple[int, str]]:
    """Moments and losses, in order; often where it matters most; none in an empty trace."""
    if not events:
        return []
    sends = [x.at + 1 for x in events if x.call.name in SENDS and not x.is_end and _port(x)]
    syncs = [x.at for x in events if x.call.name in _SYNCS and x.is_end]
    names = [x.at + 1 for x in events if x.call.name in _NAMES]
    places = [list(range(1, len(events) + 1)), sends, sends, syncs, names]
    found = {chance.choice(chance.choice([p for p in places if p])) for _ in range(count)}
    return [(at, chance.choice(LOSSES)) for at in sorted(found)]


class Recording:
    """A folder on paper, through one or more lives of the processes that change it.

    What one life has left without a sync is still not durable in the next one, also what a sync
    has covered that failed: a kernel may call such pages clean and never write them.

    Args:
        path: Where processes see the folder.
        base: A copy of it as it is now, which stays as long as this is used.

    Attributes:
        left: What has left in all in the last life.
    """

    def __init__(self, path: Path, base: Path) -> None:
        self._path = path
        self._folder = scan(base)
        self._uncertain: set[int] = set()
        self.left = Left({}, 0)

    def cuts(
        self,
        events: Sequence[Event],
        wanted: Sequence[tuple[int, str]],
        *,
        target: Path,
        chance: random.Random,
    ) -> Iterator[tuple[Cut, Path]]:
        """One life; each cut in it, and the folder that it leaves.

        Args:
            events: The whole trace of that life.
            wanted: Moments and losses, in order.
            target: Folders are made below.
            chance: Decides what is lost.

        Raises:
            UnexplainedError: The trace cannot be understood.
        """
        replay, sent, now = Replay(self._path, self._folder), dict[int, int](), 0
        rest = list(wanted)
        for event in events:
            while rest and rest[0][0] <= event.at:
                yield self._cut(rest.pop(0), Left(dict(sent), now), target, chance)
            replay.take(event)
            _count(event, sent)
            now = event.time_ms
        for one in rest:
            yield self._cut(one, Left(dict(sent), now), target, chance)
        self._uncertain, self.left = replay.uncertain, Left(sent, _END)

    def _cut(
        self,
        wanted: tuple[int, str],
        left: Left,
        target: Path,
        chance: random.Random,
    ) -> tuple[Cut, Path]:
        at, loss = wanted
        folder = target / f"cut-{at}"
        keeps = _keeping(loss, chance, at)
        write_out(self._folder, folder, keeps, lambda: chance.random() < 0.5)
        return Cut(at, loss, left), folder

    def settle(self) -> None:
        """Compare with the folder as the life has left it, and go on from there.

        Raises:
            UnexplainedError: The trace does not explain what lies there.
        """
        if missing := differences(self._folder, self._path, self._uncertain):
            raise UnexplainedError("; ".join(missing[:3]))
        adopt(self._folder, self._path)


def _keeping(loss: str, chance: random.Random, at: int) -> Keeps:
    """Who lasts; names that one call changed last together."""
    if loss == "everything":
        return lambda _: False
    if loss == "nothing":
        return lambda _: True
    if loss == "the newest":
        until = chance.randrange(max(0, at - 40), at + 1)
        return lambda change: not change.is_doomed and change.call.began < until
    share, decided = _SHARES[loss], dict[int, bool]()

    def keeps(change: Change) -> bool:
        if change.data is not None:
            return chance.random() >= share
        return decided.setdefault(id(change.call), chance.random() >= share)

    return keeps


def _port(event: Event) -> int | None:
    """The port of the client that a call sends to, if it sends over TCP."""
    _, is_tcp, addresses = event.call.arguments.partition(",")[0].partition("<TCP:[")
    if not is_tcp:
        return None
    return int(addresses.rpartition("->")[2].rstrip("]>").rpartition(":")[2])


def _count(event: Event, sent: dict[int, int]) -> None:
    """Count what leaves: when the call begins, as the client may have it at once."""
    if event.call.name not in SENDS or event.is_end:
        return
    port = _port(event)
    if port is not None:
        result = event.call.result
        size = sum(map(len, event.call.strings())) if result is None else max(0, result)
        sent[port] = sent.get(port, 0) + size


TRACED: Final = tuple(dict.fromkeys((*CHANGES, *SENDS, *STARTS)))
"""The calls that a trace must have."""
