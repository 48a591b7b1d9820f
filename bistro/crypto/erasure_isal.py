"""Intel's ISA-L, where the machine has it: the same products, far faster than in Python.

It is called by ``ctypes``, which lets other threads run meanwhile. It is taken only if it
computes what Python computes: it is asked once, for codes of several kinds.

Source: docs/spec/fragments.md, erasure code; ISA-L 2.30, ``erasure_code.h``.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from bistro.crypto.digest import BytesLike
from bistro.crypto.erasure_python import PythonKernel, Rows, Writable

_NAMES: Final = ("libisal.so.2", "libisal.2.dylib")
"""What the system's loader may call it; no path, and no other version, is looked for."""
_TABLE_SIZE: Final = 32
"""Bytes of the library's table for one coefficient."""
_MOST: Final = 2**30
"""Bytes of a unit in one call: the library counts in a C int."""
_KNOWN_SIZE: Final = 97
_KNOWN_ROWS: Final[tuple[Rows, ...]] = (
    ((0x47, 0xA7, 0x7A, 0xBA), (0xA7, 0x47, 0xBA, 0x7A)),
    ((0x8E, 0xF4),),
    tuple(tuple((row * 31 + column * 7) % 255 + 1 for column in range(9)) for row in range(7)),
)


class IsalKernel:
    """Sums of products in GF(2^8), computed by ISA-L.

    Args:
        library: One that has ``ec_init_tables`` and ``ec_encode_data``.

    Attributes:
        name: What a filer is told.
    """

    name: Final = "libisal"

    def __init__(self, library: ctypes.CDLL) -> None:
        self._initialize = library.ec_init_tables
        self._initialize.argtypes = [*[ctypes.c_int] * 2, *[ctypes.c_char_p] * 2]
        self._initialize.restype = None
        self._encode = library.ec_encode_data
        self._encode.argtypes = [*[ctypes.c_int] * 3, *[ctypes.c_void_p] * 3]
        self._encode.restype = None
        self._tables_of = lru_cache(maxsize=16)(self._make_tables)

    def combine(self, rows: Rows, units: Sequence[BytesLike], targets: Sequence[Writable]) -> None:
        """Write the sum of ``row[i] * units[i]`` into each row's target; all sizes are equal."""
        # What lies at an address must stay: these objects own it until this returns.
        sources = [readable(unit) for unit in units]
        results = [ctypes.c_char.from_buffer(target) for target in targets]
        source_at = [address for address, _ in sources]
        result_at = list(map(ctypes.addressof, results))
        tables = self._tables_of(rows)
        size = len(units[0])
        for at in range(0, size, _MOST):
            self._encode(
                min(size - at, _MOST),
                len(units),
                len(targets),
                tables,
                _pointers([address + at for address in source_at]),
                _pointers([address + at for address in result_at]),
            )

    def _make_tables(self, rows: Rows) -> ctypes.Array[ctypes.c_char]:
        columns = len(rows[0])
        tables = ctypes.create_string_buffer(_TABLE_SIZE * len(rows) * columns)
        self._initialize(columns, len(rows), b"".join(map(bytes, rows)), tables)
        return tables


def readable(unit: BytesLike) -> tuple[int, object]:
    """Where the bytes of ``unit`` lie, and what keeps them there."""
    if isinstance(unit, memoryview) and unit.readonly:
        unit = bytes(unit)  # there is no way to ask for its address
    if isinstance(unit, bytes):
        pointer = ctypes.c_char_p(unit)
        return ctypes.cast(pointer, ctypes.c_void_p).value or 0, unit
    first = ctypes.c_char.from_buffer(unit)
    return ctypes.addressof(first), first


def _pointers(addresses: Sequence[int]) -> bytes:
    """What C reads as an array of pointers; a third of the cost of one of ctypes."""
    return struct.pack(f"{len(addresses)}P", *addresses)


@lru_cache(maxsize=1)
def find_library() -> ctypes.CDLL | None:
    """The library, where the system's loader finds it."""
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def find_kernel() -> IsalKernel | None:
    """The library's kernel, unless there is none or it computes something else."""
    library = find_library()
    if library is None:
        return None
    try:
        kernel = IsalKernel(library)
    except AttributeError:  # another library of that name
        return None
    return kernel if all(_is_right(kernel, rows) for rows in _KNOWN_ROWS) else None


def _is_right(kernel: IsalKernel, rows: Rows) -> bool:
    """Whether a kernel computes for ``rows`` what Python computes."""
    units = [
        bytes((37 * at + column) & 255 for at in range(_KNOWN_SIZE))
        for column in range(len(rows[0]))
    ]
    found, expected = ([bytearray(_KNOWN_SIZE) for _ in rows] for _ in range(2))
    kernel.combine(rows, units, found)
    PythonKernel().combine(rows, units, expected)
    return found == expected
