"""The erasure code: any k of n units restore the k data units.

Arithmetic is in GF(2^8) with the polynomial 0x11d. Units 0 to k-1 are the data; parity unit r
has the coefficient ``inverse(r xor c)`` for data unit c, as in ISA-L's Cauchy matrix. This is a
polynomial code: with suitable factors the units are the values of one polynomial of degree
below k at the points 0 to n-1, so that Lagrange's formula gives any unit from any k others
without inverting a matrix. For k = 1 every unit is a copy.

The arithmetic itself is done by ISA-L where the machine has it, else in Python: the results
are the same, bit for bit.

Source: docs/spec/fragments.md; Blömer et al., *An XOR-Based Erasure-Resilient Coding
Scheme*, 1995.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from bistro.crypto.digest import BytesLike
from bistro.crypto.erasure_isal import find_kernel
from bistro.crypto.erasure_python import EXP, LOG, ORDER, PythonKernel, Rows, Writable
from bistro.errors import FormatError, UnavailableError

MAX_UNITS = 255
"""The most units a code may have: more points than this the field does not offer."""


class Kernel(Protocol):
    """What computes sums of products."""

    @property
    def name(self) -> str:
        """What a filer is told."""
        ...

    def combine(self, rows: Rows, units: Sequence[BytesLike], targets: Sequence[Writable]) -> None:
        """Write the sum of ``row[i] * units[i]`` into each row's target; all sizes are equal."""
        ...


@lru_cache(maxsize=1)
def best_kernel() -> Kernel:
    """What this machine computes with."""
    return find_kernel() or PythonKernel()


def _log_of_product(point: int, others: Iterable[int]) -> int:
    """The logarithm of the product of ``point xor other``, without ``point`` itself."""
    return sum(LOG[point ^ other] for other in others if other != point)


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
        - LOG[target ^ source]
        for source in sources
    )
    return tuple(EXP[value % ORDER] for value in logs)


class Coder:
    """A code of n units of which any k restore the data.

    Args:
        k: Number of data units, at least 1.
        n: Number of all units, k to ``MAX_UNITS``.
        kernel: What to compute with; by default the best that there is.

    Raises:
        FormatError: No such code.
    """

    def __init__(self, k: int, n: int, *, kernel: Kernel | None = None) -> None:
        if not 1 <= k <= n <= MAX_UNITS:
            raise FormatError(f"erasure code: expected 1 <= k <= n <= {MAX_UNITS}, found {k}, {n}")
        self.k = k
        self.n = n
        self._kernel = kernel or best_kernel()

    def encode(self, units: Sequence[BytesLike]) -> list[bytes]:
        """The n - k parity units of k data units of equal size.

        Raises:
            FormatError: Another number of units, or their sizes differ.
        """
        self._require_row(units)
        return self._build(tuple(range(self.k)), units, range(self.k, self.n))

    def parity(self, units: Sequence[BytesLike], index: int) -> bytes:
        """Parity unit ``index``, k to n - 1, of k data units of equal size.

        Raises:
            FormatError: Another number of units, their sizes differ, or no such parity unit.
        """
        self._require_row(units)
        if not self.k <= index < self.n:
            raise FormatError(f"erasure code: no parity unit {index} for {self.k} of {self.n}")
        return self._build(tuple(range(self.k)), units, [index])[0]

    def encode_into(self, units: Sequence[BytesLike], parity: Sequence[Writable]) -> None:
        """As ``encode``, into n - k buffers of the units' size that are used again and again.

        Raises:
            FormatError: Another number of units or buffers, or their sizes differ.
        """
        self._require_row(units)
        if len(parity) != self.n - self.k:
            raise FormatError(
                f"erasure code: expected {self.n - self.k} parity units, found {len(parity)}"
            )
        _require_equal_sizes([units[0], *parity])
        self._compute(tuple(range(self.k)), units, range(self.k, self.n), parity)

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

    def _require_row(self, units: Sequence[BytesLike]) -> None:
        if len(units) != self.k:
            raise FormatError(f"erasure code: expected {self.k} units, found {len(units)}")
        _require_equal_sizes(units)

    def _build(
        self, sources: tuple[int, ...], units: Sequence[BytesLike], targets: Sequence[int]
    ) -> list[bytes]:
        if self.k == 1:
            return [bytes(units[0])] * len(targets)
        built = [bytearray(len(units[0])) for _ in targets]
        self._compute(sources, units, targets, built)
        return list(map(bytes, built))

    def _compute(
        self,
        sources: tuple[int, ...],
        units: Sequence[BytesLike],
        targets: Sequence[int],
        results: Sequence[Writable],
    ) -> None:
        if targets and len(units[0]):
            rows = tuple(_coefficients(self.k, sources, target) for target in targets)
            self._kernel.combine(rows, units, results)


def _require_equal_sizes(units: Sequence[BytesLike]) -> None:
    sizes = {len(unit) for unit in units}
    if len(sizes) != 1:
        raise FormatError(f"erasure code: expected units of one size, found {sorted(sizes)}")
