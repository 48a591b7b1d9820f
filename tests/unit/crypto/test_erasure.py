"""The erasure code against plain field arithmetic, by both kernels where ISA-L is installed."""

from __future__ import annotations

import ctypes
from functools import reduce
from itertools import combinations
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto import erasure, erasure_isal
from bistro.crypto.digest import BytesLike
from bistro.crypto.erasure import Coder, Kernel
from bistro.crypto.erasure_isal import IsalKernel, find_kernel, find_library
from bistro.crypto.erasure_python import PythonKernel
from bistro.errors import BistroError, FormatError, catalogue
from tests.support.vectors import Vector, each_vector


def product(left: int, right: int) -> int:
    """Multiplication in GF(2^8)/0x11d, bit by bit."""
    result = 0
    while right:
        if right & 1:
            result ^= left
        left <<= 1
        if left & 0x100:
            left ^= 0x11D
        right >>= 1
    return result


INVERSE = {a: next(b for b in range(1, 256) if product(a, b) == 1) for a in range(1, 256)}


def defined_parity(k: int, n: int, units: list[bytes]) -> list[bytes]:
    """The specification's matrix, element by element."""
    if k == 1:
        return units * (n - 1)
    return [
        bytes(
            reduce(xor, (product(INVERSE[row ^ column], units[column][at]) for column in range(k)))
            for at in range(len(units[0]))
        )
        for row in range(k, n)
    ]


@st.composite
def codes(draw: st.DrawFn, most: int = 255) -> tuple[int, int]:
    n = draw(st.integers(1, most))
    return draw(st.integers(1, n)), n


def drawn_units(data: st.DataObject, k: int, size: int) -> list[bytes]:
    joined = data.draw(st.binary(min_size=k * size, max_size=k * size))
    return [joined[at * size : (at + 1) * size] for at in range(k)]


@each_vector("erasure", "valid")
def test_parity_is_as_published(vector: Vector) -> None:
    """Parity units have the vector's bytes, and restore the data alone where they suffice."""
    k, n = vector["k"], vector["n"]
    size = len(vector.data) // k
    units = [vector.data[at * size : (at + 1) * size] for at in range(k)]
    parity = [bytes.fromhex(text) for text in vector["parity"]]
    coder = Coder(k, n)
    assert coder.encode(units) == parity
    every = dict(enumerate([*units, *parity]))
    last = {index: every[index] for index in range(n - k, n)}
    assert coder.restore(last) == units


@each_vector("erasure", "valid")
def test_parity_units_can_be_had_one_by_one(vector: Vector) -> None:
    """As all together; data units are no parity."""
    k, n = vector["k"], vector["n"]
    size = len(vector.data) // k
    units = [vector.data[at * size : (at + 1) * size] for at in range(k)]
    coder = Coder(k, n)
    parity = [coder.parity(units, index).hex() for index in range(k, n)]
    assert parity == vector["parity"]
    for index in (k - 1, n):
        with pytest.raises(FormatError, match=f"no parity unit {index}"):
            coder.parity(units, index)


@each_vector("erasure", "invalid")
def test_impossible_codes_and_units_are_refused(vector: Vector) -> None:
    """Each with the code that the vector names."""
    units = {int(index): bytes.fromhex(text) for index, text in vector["units"].items()}
    with pytest.raises(BistroError) as caught:
        Coder(vector["k"], vector["n"]).restore(units)
    assert type(caught.value) is catalogue()[vector.code]


@pytest.mark.parametrize(("count", "size"), [(1, 4), (3, 4), (2, 0)])
def test_a_row_has_k_units_of_one_size(count: int, size: int) -> None:
    """Encoding takes exactly the data units; rows of empty units are fine."""
    units = [bytes(size + (index if size else 0)) for index in range(count)]
    if size == 0:
        assert Coder(2, 3).encode(units) == [b""]
        return
    with pytest.raises(FormatError):
        Coder(2, 3).encode(units)


def test_units_of_different_size_are_not_encoded() -> None:
    """The last row is padded before it is encoded."""
    with pytest.raises(FormatError):
        Coder(2, 3).encode([b"ab", b"abc"])


@pytest.mark.parametrize(("k", "n"), [(k, n) for n in range(1, 8) for k in range(1, n + 1)])
def test_any_k_units_restore_the_data(k: int, n: int) -> None:
    """Every choice of k units of every small code, and all units together."""
    units = [bytes([17 * index + at & 255 for at in range(5)]) for index in range(k)]
    every = [*units, *Coder(k, n).encode(units)]
    for chosen in combinations(range(n), k):
        assert Coder(k, n).restore({index: every[index] for index in chosen}) == units
    assert Coder(k, n).restore(dict(enumerate(every))) == units


@given(code=codes(40), size=st.integers(0, 4), data=st.data())
def test_parity_is_as_defined(code: tuple[int, int], size: int, data: st.DataObject) -> None:
    """The formula that is used gives the matrix that is specified."""
    k, n = code
    units = drawn_units(data, k, size)
    assert Coder(k, n).encode(units) == defined_parity(k, n, units)


@given(code=codes(), size=st.integers(0, 3), data=st.data())
def test_any_choice_of_a_wide_code_restores(
    code: tuple[int, int], size: int, data: st.DataObject
) -> None:
    """Up to 255 units, whichever k of them are at hand, and in any order."""
    k, n = code
    units = drawn_units(data, k, size)
    every = [*units, *Coder(k, n).encode(units)]
    seed = data.draw(st.randoms(use_true_random=False))
    chosen = seed.sample(range(n), k)
    assert Coder(k, n).restore({index: every[index] for index in chosen}) == units


def test_units_may_be_any_kind_of_bytes() -> None:
    """Buffers of a stripe are used as they are; what comes back is bytes."""
    coder = Coder(2, 4)
    units = [b"left", b"even"]
    parity = coder.encode([memoryview(units[0]), bytearray(units[1])])
    assert parity == coder.encode(units)
    restored = coder.restore({1: bytearray(units[1]), 3: memoryview(parity[1])})
    assert restored == units
    assert all(type(unit) is bytes for unit in restored)


# --- kernels


def kernels() -> list[Kernel]:
    """Python's, and the library's where the machine has it."""
    found = find_kernel()
    return [PythonKernel()] if found is None else [PythonKernel(), found]


BOTH = pytest.mark.parametrize("kernel", kernels(), ids=lambda kernel: kernel.name)


@BOTH
@each_vector("erasure", "valid")
def test_each_kernel_computes_what_is_published(vector: Vector, kernel: Kernel) -> None:
    """Also into buffers of the caller's, and back from the last k units."""
    k, n = vector["k"], vector["n"]
    size = len(vector.data) // k
    units = [vector.data[at * size : (at + 1) * size] for at in range(k)]
    parity = [bytes.fromhex(text) for text in vector["parity"]]
    coder = Coder(k, n, kernel=kernel)
    assert coder.encode(units) == parity
    buffers = [bytearray(size) for _ in range(n - k)]
    coder.encode_into(units, buffers)
    assert buffers == parity
    every = dict(enumerate([*units, *parity]))
    assert coder.restore({index: every[index] for index in range(n - k, n)}) == units


@BOTH
@given(code=codes(60), size=st.sampled_from([1, 15, 31, 64, 257, 40_000]), data=st.data())
def test_each_kernel_computes_the_defined_parity(
    kernel: Kernel, code: tuple[int, int], size: int, data: st.DataObject
) -> None:
    """At every size: below, at and between the widths that vector instructions work in."""
    k, n = code
    seed = data.draw(st.randoms(use_true_random=False))
    units = [seed.randbytes(size) for _ in range(k)]
    at = seed.randrange(size)
    parity = Coder(k, n, kernel=kernel).encode(units)
    expected = defined_parity(k, n, [unit[at : at + 1] for unit in units])
    assert [unit[at : at + 1] for unit in parity] == expected
    assert parity == Coder(k, n, kernel=PythonKernel()).encode(units)
    chosen = seed.sample(range(n), k)
    every = [*units, *parity]
    restored = Coder(k, n, kernel=kernel).restore({index: every[index] for index in chosen})
    assert restored == units


@BOTH
def test_each_kernel_reads_and_writes_any_kind_of_buffer(kernel: Kernel) -> None:
    """Slices that begin anywhere, whoever owns the memory; nothing beside the target changes."""
    data = bytes(range(200))
    expected = Coder(4, 5, kernel=PythonKernel()).encode([data[7:107]] * 4)
    target = bytearray(b"x" * 120)
    with memoryview(target) as view:
        owned = memoryview(bytearray(data))
        units: list[BytesLike] = [
            data[7:107],
            bytearray(data[7:107]),
            memoryview(data)[7:107],
            owned[7:107],
        ]
        Coder(4, 5, kernel=kernel).encode_into(units, [view[3:103]])
    assert bytes(target) == b"xxx" + expected[0] + b"x" * 17


def test_parity_buffers_must_fit() -> None:
    """A buffer too few or too short would be an overrun in the library."""
    with pytest.raises(FormatError, match="expected 2 parity units, found 1"):
        Coder(2, 4).encode_into([b"ab", b"cd"], [bytearray(2)])
    with pytest.raises(FormatError, match="units of one size"):
        Coder(2, 3).encode_into([b"ab", b"cd"], [bytearray(1)])


@pytest.fixture
def isal() -> ctypes.CDLL:
    library = find_library()
    if library is None:
        pytest.skip("NOT COMPARED WITH ISA-L: install the Debian package libisal2")
    return library


def test_the_matrix_is_the_one_of_isal(isal: ctypes.CDLL) -> None:
    """Rows of ``gf_gen_cauchy1_matrix``: whoever uses that library needs nothing of ours."""
    for k, n in [(2, 3), (3, 5), (4, 6), (17, 40), (100, 255)]:
        matrix = (ctypes.c_ubyte * (n * k))()
        isal.gf_gen_cauchy1_matrix(matrix, n, k)
        rows = [list(matrix[at : at + k]) for at in range(0, n * k, k)]
        units = [bytes(int(row == column) for row in range(k)) for column in range(k)]
        parity = Coder(k, n, kernel=PythonKernel()).encode(units)
        assert [list(unit) for unit in parity] == rows[k:]


class Broken:
    """A library of the right name that does something else."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.ec_init_tables = library.ec_init_tables
        self.crc32_gzip_refl = library.crc32_gzip_refl

    @staticmethod
    def ec_encode_data(*_: object) -> None:
        """Leaves the targets as they are."""


@pytest.mark.parametrize("how", ["none", "broken", "other"])
def test_a_library_that_is_not_right_is_not_used(
    monkeypatch: pytest.MonkeyPatch, isal: ctypes.CDLL, how: str
) -> None:
    """Nobody's fragments depend on what a machine calls libisal."""
    library = {"none": None, "broken": Broken(isal), "other": object()}[how]
    monkeypatch.setattr(erasure_isal, "find_library", lambda: library)
    assert find_kernel() is None
    erasure.best_kernel.cache_clear()
    try:
        assert erasure.best_kernel().name == "pure Python"
    finally:
        erasure.best_kernel.cache_clear()


def test_units_longer_than_a_c_int_counts_are_computed_in_parts(
    monkeypatch: pytest.MonkeyPatch, isal: ctypes.CDLL
) -> None:
    """The parts join without a seam."""
    monkeypatch.setattr(erasure_isal, "_MOST", 1_000)
    units = [bytes((index * at + at // 251) & 255 for at in range(65_536)) for index in range(4)]
    found = Coder(4, 6, kernel=IsalKernel(isal)).encode(units)
    assert found == Coder(4, 6, kernel=PythonKernel()).encode(units)
