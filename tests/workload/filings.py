"""The filings of a window: when each is due, what it commits to, who asks, what it reads later.

The same seed gives the same filings in every process; nothing about them is sent around.

Source: docs/reference/workload.md.
"""

from __future__ import annotations

import random  # noqa: TID251 - seeded by chance.seeded
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.workload.chance import Line, draw_line, draw_size, seeded
from tests.workload.windows import Window

READS: Final = (4, 10)
"""Status reads a filing, from people who want to see that it arrived."""
_READ_AFTER_S: Final = (0.5, 20.0)
_ADDRESSES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Filing:
    """One filing.

    Attributes:
        number: From 0, in the order in which they are due.
        due_s: When its ticket is asked for, seconds of the window.
        commitment: 32 bytes.
        address: Whence it is asked for: a loopback address of the filer's own.
        reads_s: When its status is read, seconds after its ticket, ascending.
        size: Bytes of data that would follow the ticket.
        line: Over which they would go.
    """

    number: int
    due_s: float
    commitment: bytes
    address: str
    reads_s: tuple[float, ...]
    size: int
    line: Line


def filings_of(window: Window, seed: int) -> Iterator[Filing]:
    """All filings of ``window``, in order."""
    content, clients = seeded(seed, "content"), seeded(seed, "clients")
    for number, due_s in enumerate(window.arrivals(seed)):
        yield Filing(
            number=number,
            due_s=due_s,
            commitment=content.randbytes(32),
            address=_address(clients),
            reads_s=_reads(clients),
            size=draw_size(content),
            line=draw_line(clients),
        )


def _address(chance: random.Random) -> str:
    """One of 127.1.0.0 to 127.1.255.255: a server that counts by address sees many filers."""
    high, low = divmod(chance.randrange(_ADDRESSES), 256)
    return f"127.1.{high}.{low}"


def _reads(chance: random.Random) -> tuple[float, ...]:
    count = chance.randint(*READS)
    return tuple(sorted(chance.uniform(*_READ_AFTER_S) for _ in range(count)))
