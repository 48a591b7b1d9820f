"""The erasure code: any k of n units restore the k data units.

Arithmetic is in GF(2^8) with the polynomial 0x11d. Units 0 to k-1 are the data; parity unit r
has the coefficient ``inverse(r xor c)`` for data unit c, as in ISA-L's Cauchy matrix. This is a
polynomial code: with suitable factors the units are the values of one polynomial of degree
below k at the points 0 to n-1, so that Lagrange's formula gives any unit from any k others
without inverting a matrix. For k = 1 every unit is a copy.

A unit is multiplied by ``bytes.translate`` and added by integer xor: hundreds of megabytes a
second without leaving Python.

Source: docs/spec/fragments.md; Blömer et al., *An XOR-Based Erasure-Resilient Coding
Scheme*, 1995.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from bistro.crypto.digest import BytesLike
from bistro.errors import FormatError, UnavailableError

MAX_UNITS = 255
"""The most units a code may have: more points than this the field does not offer."""

_POLYNOMIAL = 0x11D
_ORDER = 255
"""Order of the multiplicative group."""


def _powers() -> tuple[list[int], list[int]]:
    """Powers of the generator 2, twice around so that sums need no modulo, and logarithms."""
    exp, log = [0] * (2 * _ORDER), [0] * (_ORDER + 1)
    value = 1
    for power in range(_ORDER):
        exp[power] = exp[power + _ORDER] = value
        log[value] = power
        value <<= 1
        if value > _ORDER:
            value ^= _POLYNOMIAL
    return exp, log


_EXP, _LOG = _powers()


@lru_cache(maxsize=_ORDER)
def _table(coefficient: int) -> bytes:
    """The product of ``coefficient``, not zero, with every byte."""
    power = _LOG[coefficient]
    return bytes([0, *(_EXP[power + _LOG[value]] for value in range(1, 256))])


def _log_of_product(point: int, others: Iterable[int]) -> int:
    """The logarithm of the product of ``point xor other``, without ``point`` itself."""
    return sum(_LOG[point ^ other] for other in others if other != point)


@lru_cache(maxsize=1024)
def _coefficients(k: int, sources: tuple[int, ...], target: int) -> tuple[int, ...]:
    """What to multiply units ``sources``, k of them, with, to get unit ``target``, another one.

    Unit i is ``u(i) * f(i)`` with f of degree below k and ``1/u(i) = product of (i xor j)`` over
    the data units j other than i. Lagrange's formula for f then gives the coefficient of source i
    as ``u(target)/u(i) * product of (target xor j) / product of (i xor j)`` over the other
    sources j. With the data units as sources this is ``inverse(target xor i)``.
    """
    if k == 1:
        return (1,)
    data = range(k)
    common = _log_of_product(target, sources) - _log_of_product(target, data)
    logs = (
        common
        + _log_of_product(source, data)
        - _log_of_product(source, sources)
        - _LOG[target ^ source]
        for source in sources
    )
    return tuple(_EXP[value % _ORDER] for value in logs)


def _combine(coefficients: Sequence[int], units: Sequence[BytesLike]) -> bytes:
    """The sum of ``coefficients[i] * units[i]``."""
    total = 0
    for coefficient, unit in zip(coefficients, units, strict=True):
        product = bytes(unit) if coefficient == 1 else bytes(unit).translate(_table(coefficient))
        total ^= int.from_bytes(product, "little")
    return total.to_bytes(len(units[0]), "little")


class Coder:
    """A code of n units of which any k restore the data.

    Args:
        k: Number of data units, at least 1.
        n: Number of all units, k to ``MAX_UNITS``.

    Raises:
        FormatError: No such code.
    """

    def __init__(self, k: int, n: int) -> None:
        if not 1 <= k <= n <= MAX_UNITS:
            raise FormatError(f"erasure code: expected 1 <= k <= n <= {MAX_UNITS}, found {k}, {n}")
        self.k = k
        self.n = n

    def encode(self, units: Sequence[BytesLike]) -> list[bytes]:
        """The n - k parity units of k data units of equal size.

        Raises:
            FormatError: Another number of units, or their sizes differ.
        """
        if len(units) != self.k:
            raise FormatError(f"erasure code: expected {self.k} units, found {len(units)}")
        _require_equal_sizes(units)
        return self._build(tuple(range(self.k)), units, range(self.k, self.n))

    def restore(self, units: Mapping[int, BytesLike]) -> list[bytes]:
        """The k data units from any k units or more; those present are returned as they are.

        Wrong bytes are not noticed here: whoever calls checks the restored envelope.

        Args:
            units: Units by index; data units are preferred.

        Raises:
            FormatError: An index is n or above, or the sizes differ.
            UnavailableError: Fewer than k units.
        """
        for index in units:
            if not 0 <= index < self.n:
                raise FormatError(f"erasure code: no unit {index} among {self.n}")
        if len(units) < self.k:
            raise UnavailableError(
                f"erasure code: expected {self.k} units, found {len(units)}",
                hint="wait until more fragments have arrived",
            )
        sources = tuple(sorted(units)[: self.k])
        present = [units[index] for index in sources]
        _require_equal_sizes(present)
        missing = [index for index in range(self.k) if index not in units]
        restored = dict(zip(missing, self._build(sources, present, missing), strict=True))
        return [
            restored[index] if index in restored else bytes(units[index]) for index in range(self.k)
        ]

    def _build(
        self, sources: tuple[int, ...], units: Sequence[BytesLike], targets: Iterable[int]
    ) -> list[bytes]:
        return [_combine(_coefficients(self.k, sources, target), units) for target in targets]


def _require_equal_sizes(units: Sequence[BytesLike]) -> None:
    sizes = {len(unit) for unit in units}
    if len(sizes) != 1:
        raise FormatError(f"erasure code: expected units of one size, found {sorted(sizes)}")
