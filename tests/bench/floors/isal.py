"""The floor of ``client.erasure``: Intel's ISA-L, the same code bit for bit."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence


class Isal:
    """Parity of k units, all of the same size, into buffers that are used again.

    Args:
        library: From ``find``.
        size: Of a unit.
    """

    def __init__(self, library: ctypes.CDLL, *, k: int, n: int, size: int) -> None:
        self._library = library
        self._k, self._size, self._parity_count = k, size, n - k
        matrix = (ctypes.c_ubyte * (n * k))()
        library.gf_gen_cauchy1_matrix(matrix, n, k)
        rows = (ctypes.c_ubyte * ((n - k) * k)).from_buffer(matrix, k * k)
        self._tables = (ctypes.c_ubyte * (32 * k * (n - k)))()
        library.ec_init_tables(k, n - k, rows, self._tables)
        self._parity = [ctypes.create_string_buffer(size) for _ in range(n - k)]
        self._targets = (ctypes.c_void_p * (n - k))(*map(ctypes.addressof, self._parity))

    def encode(self, units: Sequence[bytes]) -> None:
        """Compute the parity units."""
        sources = (ctypes.c_char_p * self._k)(*units)
        self._library.ec_encode_data(
            self._size, self._k, self._parity_count, self._tables, sources, self._targets
        )

    def parity(self) -> list[bytes]:
        """What was computed last."""
        return [buffer.raw for buffer in self._parity]


def find() -> ctypes.CDLL | None:
    """The library, where the machine has it."""
    name = ctypes.util.find_library("isal")
    return None if name is None else ctypes.CDLL(name)
