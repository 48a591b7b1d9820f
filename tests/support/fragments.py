"""An envelope at hand, cut into its fragments."""

from __future__ import annotations

from bistro.protocol.fragmenting import RowCutter, StripeSums
from bistro.wire.fragment import Cut


def cut_up(envelope: bytes, *, k: int, n: int) -> tuple[Cut, list[bytes]]:
    """What a commitment says of an envelope, and the fragments themselves."""
    cutter, sums = RowCutter(k=k, n=n), StripeSums(k=k, n=n)
    sums.feed(envelope)
    rows = [
        [bytes(unit) for unit in cutter.cut(memoryview(envelope)[at : at + cutter.row_size])]
        for at in range(0, len(envelope), cutter.row_size)
    ]
    return sums.cut(), [b"".join(column) for column in zip(*rows, strict=True)]
