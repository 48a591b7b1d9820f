"""Power cuts: at some moments of a trace, what the disk would have kept, as folders.

``kill -9`` loses no page that was written; a power cut does. So the trace of a life is replayed
on a copy of the folder it began with, up to a moment, and of what was not durable then some is
lost. One life gives many cuts.
"""

from __future__ import annotations

import random  # noqa: TID251 - passed in, seeded
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.crash.medium import Change, Keeps, differences, scan, write_out
from tests.crash.replaying import Replay
from tests.crash.traces import CHANGES, SENDS, Event

LOSSES: Final = ("everything", "nothing", "some", "most", "one", "the newest")
"""What of the changes that were not durable is lost."""

_SYNCS: Final = frozenset({"fdatasync", "fsync"})
_NAMES: Final = frozenset({"rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir"})
_SHARES: Final = {"some": 0.5, "most": 0.9, "one": 0.03}


@dataclass(frozen=True, slots=True)
class Cut:
    """A moment at which the power fails.

    Attributes:
        at: Events before it have happened.
        loss: One of ``LOSSES``.
        sent: Bytes that were handed to each connection before, by the port of its client.
    """

    at: int
    loss: str
    sent: Mapping[int, int]


def draw_cuts(events: Sequence[Event], chance: random.Random, count: int) -> list[tuple[int, str]]:
    """Moments and losses, in order; often where it matters most."""
    sends = [x.at + 1 for x in events if x.call.name in SENDS and not x.is_end and _port(x)]
    syncs = [x.at for x in events if x.call.name in _SYNCS and x.is_end]
    names = [x.at + 1 for x in events if x.call.name in _NAMES]
    places = [list(range(1, len(events) + 1)), sends, sends, syncs, names]
    found = {chance.choice(chance.choice([p for p in places if p])) for _ in range(count)}
    return [(at, chance.choice(LOSSES)) for at in sorted(found)]


def make_cuts(
    events: Sequence[Event],
    wanted: Sequence[tuple[int, str]],
    *,
    base: Path,
    path: Path,
    target: Path,
    chance: random.Random,
) -> Iterator[tuple[Cut, Path]]:
    """Each cut, and the folder that it leaves.

    Args:
        events: The whole trace.
        wanted: Moments and losses, in order.
        base: A copy of the folder as it was before the trace.
        path: Where the traced process saw it.
        target: Folders are made below.
        chance: Decides what is lost.

    Raises:
        UnexplainedError: The trace cannot be understood.
    """
    replay, sent = Replay(path, scan(base)), dict[int, int]()
    rest = list(wanted)
    for event in events:
        while rest and rest[0][0] <= event.at:
            yield _cut(replay, rest.pop(0), sent, target, chance)
        replay.take(event)
        _count(event, sent)
    for one in rest:
        yield _cut(replay, one, sent, target, chance)


def unexplained(events: Sequence[Event], *, base: Path, path: Path) -> list[str]:
    """Where the folder at ``path``, left as the process left it, is not what its trace says."""
    replay = Replay(path, scan(base))
    for event in events:
        replay.take(event)
    return differences(replay.folder, path, replay.uncertain)


def _cut(
    replay: Replay,
    wanted: tuple[int, str],
    sent: Mapping[int, int],
    target: Path,
    chance: random.Random,
) -> tuple[Cut, Path]:
    at, loss = wanted
    folder = target / f"cut-{at}"
    keeps = _keeping(loss, chance, at)
    write_out(replay.folder, folder, keeps, lambda: chance.random() < 0.5)
    return Cut(at, loss, dict(sent)), folder


def _keeping(loss: str, chance: random.Random, at: int) -> Keeps:
    """Who lasts; names that one call changed last together."""
    if loss == "everything":
        return lambda _: False
    if loss == "nothing":
        return lambda _: True
    if loss == "the newest":
        until = chance.randrange(max(0, at - 40), at + 1)
        return lambda change: change.call.began < until
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


TRACED: Final = tuple(dict.fromkeys((*CHANGES, *SENDS)))
"""The calls that a trace must have."""
