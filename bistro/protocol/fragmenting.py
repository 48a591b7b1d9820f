"""Envelope to n fragments and k fragments back to the envelope, in one pass, at constant memory.

The envelope is cut into rows of k units of 65,536 bytes; unit j of a row belongs to fragment j,
and n - k parity units are computed from each row. The last row's unit is ``ceil(rest / k)``
bytes, padded with zeros. Rows do not depend on each other, and parity is computed byte by byte:
rows may be cut in any order, and units of many rows may be coded in one call. For k = 1 every
fragment is the envelope itself and nothing is computed or copied.

Source: docs/spec/fragments.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from bistro.crypto.bulk import piece_leaves
from bistro.crypto.digest import BytesLike
from bistro.crypto.erasure import Coder, Kernel
from bistro.crypto.treehash import Leaves
from bistro.errors import FormatError
from bistro.wire.fragment import UNIT_SIZE, Cut, Descriptor, Layout

BULK_ROWS = 8
"""Rows a reader asks for at once: bounds memory at ``BULK_ROWS * n * UNIT_SIZE`` bytes."""


def last_unit_size(envelope_size: int, k: int) -> int:
    """Bytes of a fragment's share of the last row; 0 where all rows are full."""
    rest = envelope_size % (k * UNIT_SIZE)
    return -(-rest // k)


def fragment_size(envelope_size: int, k: int) -> int:
    """Bytes of each fragment of an envelope of ``envelope_size`` bytes."""
    full_rows = envelope_size // (k * UNIT_SIZE)
    return full_rows * UNIT_SIZE + last_unit_size(envelope_size, k)


class RowCutter:
    """Cuts rows of an envelope, in any order, into units of its n fragments.

    Args:
        k: Fragments that restore the envelope.
        n: Fragments there are, k to 255.
        kernel: What to compute with; by default the best that there is.
    """

    def __init__(self, *, k: int, n: int, kernel: Kernel | None = None) -> None:
        self._k = k
        self._n = n
        self._coder = Coder(k, n, kernel=kernel)
        self._parity = [memoryview(bytearray(UNIT_SIZE)) for _ in range(n - k if k > 1 else 0)]

    @property
    def row_size(self) -> int:
        """Bytes of every row but the last."""
        return self._k * UNIT_SIZE

    def cut(self, row: memoryview) -> list[memoryview]:
        """The n units of one row, of equal size.

        Data units lie in ``row``, parity units in buffers that the next call writes again.

        Args:
            row: ``row_size`` bytes, or fewer of the last row.
        """
        if self._k == 1:
            return [row] * self._n
        size = -(-len(row) // self._k)
        if size * self._k != len(row):
            row = memoryview(bytes(row).ljust(size * self._k, b"\0"))
        units = [row[at : at + size] for at in range(0, self._k * size, size)] if size else []
        parity = [buffer[:size] for buffer in self._parity]
        if size:
            self._coder.encode_into(units, parity)
        return units + parity


class StripeReader:
    """Joins k fragments of one envelope, read in step.

    The driver reads ``next_size`` bytes from each of the k fragments and feeds them together,
    until ``next_size`` is 0::

        while size := reader.next_size:
            envelope.write(reader.feed({index: file.read(size) for index, file in files.items()}))

    Nothing is verified here: fragments were checked against their descriptors before, and the
    result is checked by encoding it again (``StripeSums``), which also sees bad padding.
    """

    def __init__(self, *, k: int, n: int, envelope_size: int) -> None:
        self._k = k
        self._coder = Coder(k, n)
        self._left = envelope_size

    @property
    def next_size(self) -> int:
        """Bytes to read of each fragment next; 0 when the envelope is complete."""
        full_rows = self._left // (self._k * UNIT_SIZE)
        if full_rows:
            return min(full_rows, BULK_ROWS) * UNIT_SIZE
        return last_unit_size(self._left, self._k)

    def feed(self, pieces: Mapping[int, bytes]) -> bytes:
        """The next bytes of the envelope.

        Args:
            pieces: ``next_size`` bytes of each of k fragments, by fragment index.

        Raises:
            FormatError: Other than k pieces, or one is too short or too long.
        """
        size = self.next_size
        if len(pieces) != self._k:
            raise FormatError(f"fragments: expected {self._k}, found {len(pieces)}")
        for index, piece in pieces.items():
            if len(piece) != size:
                raise FormatError(f"fragment {index}: expected {size} bytes, found {len(piece)}")
        joined = self._join(pieces, min(size, UNIT_SIZE))
        taken = min(len(joined), self._left)
        self._left -= taken
        return joined[:taken]

    def _join(self, pieces: Mapping[int, bytes], unit_size: int) -> bytes:
        if self._k == 1:
            return next(iter(pieces.values()))
        units = [memoryview(unit) for unit in self._coder.restore(pieces)]
        starts = range(0, len(units[0]), max(unit_size, 1))
        return b"".join(unit[at : at + unit_size] for at in starts for unit in units)


@dataclass(frozen=True, slots=True)
class LastLeaves:
    """The leaf hashes of a last row that is not full.

    Attributes:
        units: Of each of the n units; one for all where they are copies.
        pieces: Of what it has of the envelope, less than k pieces.
    """

    units: Sequence[bytes]
    pieces: Sequence[bytes]

    @classmethod
    def of(cls, units: Sequence[BytesLike], row: memoryview, k: int) -> Self:
        """Those of the row whose n units, of equal size, are ``units``."""
        pieces = [row[at : at + UNIT_SIZE] for at in range(0, len(row), UNIT_SIZE)]
        return cls(row_leaves(units, k), piece_leaves(pieces))


class CutSums:
    """Hashes of an envelope and its n fragments, put together from the leaves of whole rows.

    Rows may be hashed anywhere: their leaves come here in the order of the rows.

    Args:
        k: Fragments that restore the envelope.
        n: Fragments there are, k to 255.
        first_row: The first row that comes; those before it are put in front by ``join``.
    """

    def __init__(self, *, k: int, n: int, first_row: int = 0) -> None:
        self._k = k
        self._n = n
        self._fragments = [Leaves(first_row) for _ in range(n if k > 1 else 1)]
        # For k = 1 every fragment is the envelope.
        self._envelope = Leaves(first_row * k) if k > 1 else self._fragments[0]

    def add(self, rows: Sequence[Sequence[bytes]]) -> None:
        """The next rows, which are full.

        Args:
            rows: What ``row_leaves`` gives for each.
        """
        if not rows:
            return
        for fragment, leaves in zip(self._fragments, zip(*rows, strict=True), strict=True):
            fragment.extend(leaves)
        if self._k > 1:
            for row in rows:
                self._envelope.extend(row[: self._k])

    def add_last(self, last: LastLeaves) -> None:
        """The last row, which is not full: its units are no pieces of the envelope."""
        for fragment, leaf in zip(self._fragments, last.units, strict=True):
            fragment.append(leaf)
        if self._k > 1:
            self._envelope.extend(last.pieces)

    def join(self, later: CutSums) -> None:
        """Put behind these rows what was hashed of those that follow."""
        for fragment, rest in zip(self._fragments, later._fragments, strict=True):
            fragment.join(rest)
        if self._k > 1:
            self._envelope.join(later._envelope)

    def cut(self, envelope_size: int) -> Cut:
        """What the commitment says about the envelope and its fragments.

        Raises:
            FormatError: Nothing was hashed, or more than an envelope may have.
        """
        layout = Layout(self._envelope.root(), envelope_size, self._k, self._n)
        roots = [fragment.root() for fragment in self._fragments]
        roots *= self._n // len(roots)
        descriptors = tuple(
            Descriptor(index, layout.fragment_size, root) for index, root in enumerate(roots)
        )
        return Cut(layout, descriptors)


def row_leaves(units: Sequence[BytesLike], k: int) -> list[bytes]:
    """The leaf hash of each of the n units of a row; one for all where they are copies."""
    return piece_leaves(units if k > 1 else units[:1])


class StripeSums:
    """Sizes and hashes of an envelope and all its fragments, taken while the envelope passes by.

    Args:
        k: Fragments that restore the envelope.
        n: Fragments there are, k to 255.
    """

    def __init__(self, *, k: int, n: int) -> None:
        self._k = k
        self._cutter = RowCutter(k=k, n=n)
        self._sums = CutSums(k=k, n=n)
        self._pending = bytearray()
        self._envelope_size = 0

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the envelope."""
        self._envelope_size += len(chunk)
        view = memoryview(self._pending + chunk if self._pending else chunk)
        row_size = self._cutter.row_size
        whole_size = len(view) // row_size * row_size
        rows = range(0, whole_size, row_size)
        self._sums.add(
            [row_leaves(self._cutter.cut(view[at : at + row_size]), self._k) for at in rows]
        )
        self._pending = bytearray(view[whole_size:])

    def cut(self) -> Cut:
        """What the commitment says about the envelope and its fragments; nothing more is fed.

        Raises:
            FormatError: Nothing was fed, or more than an envelope may have.
        """
        if self._pending:
            row = memoryview(self._pending)
            self._sums.add_last(LastLeaves.of(self._cutter.cut(row), row, self._k))
        return self._sums.cut(self._envelope_size)
