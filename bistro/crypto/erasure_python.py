"""Products in GF(2^8) without any library: a table look-up and the xor of large integers.

A unit is multiplied by ``bytes.translate`` and added by integer xor: hundreds of megabytes a
second without leaving Python. Pieces that stay in a core's first cache are twice as fast as
whole units.

Source: docs/spec/fragments.md, erasure code.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from bistro.crypto.digest import BytesLike

Rows = tuple[tuple[int, ...], ...]
"""Coefficients, none of them 0: a row for each unit wanted, a column for each unit at hand."""
Writable = bytearray | memoryview

ORDER: Final = 255
"""Order of the multiplicative group."""
_POLYNOMIAL: Final = 0x11D
_PIECE: Final = 16_384


def _powers() -> tuple[list[int], list[int]]:
    """Powers of the generator 2, twice around so that sums need no modulo, and logarithms."""
    exp, log = [0] * (2 * ORDER), [0] * (ORDER + 1)
    value = 1
    for power in range(ORDER):
        exp[power] = exp[power + ORDER] = value
        log[value] = power
        value <<= 1
        if value > ORDER:
            value ^= _POLYNOMIAL
    return exp, log


EXP, LOG = _powers()


@lru_cache(maxsize=ORDER)
def _table(coefficient: int) -> bytes:
    """The product of ``coefficient``, not zero, with every byte."""
    power = LOG[coefficient]
    return bytes([0, *(EXP[power + LOG[value]] for value in range(1, 256))])


class PythonKernel:
    """Sums of products in GF(2^8), computed by the interpreter.

    Attributes:
        name: What a filer is told.
    """

    name: Final = "pure Python"

    def combine(self, rows: Rows, units: Sequence[BytesLike], targets: Sequence[Writable]) -> None:
        """Write the sum of ``row[i] * units[i]`` into each row's target; all sizes are equal."""
        views = [memoryview(unit) for unit in units]
        for at in range(0, len(views[0]), _PIECE):
            pieces = [bytes(view[at : at + _PIECE]) for view in views]
            for row, target in zip(rows, targets, strict=True):
                target[at : at + _PIECE] = _sum(row, pieces)


def _sum(row: Sequence[int], pieces: Sequence[bytes]) -> bytes:
    total = 0
    for coefficient, piece in zip(row, pieces, strict=True):
        product = piece if coefficient == 1 else piece.translate(_table(coefficient))
        total ^= int.from_bytes(product, "little")
    return total.to_bytes(len(pieces[0]), "little")
