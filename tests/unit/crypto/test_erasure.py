"""The erasure code against plain field arithmetic, and against ISA-L where it is installed."""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import reduce
from itertools import combinations
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.erasure import Coder
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


# --- ISA-L


def isal_parity(library: ctypes.CDLL, k: int, n: int, units: list[bytes]) -> list[bytes]:
    matrix = (ctypes.c_ubyte * (n * k))()
    library.gf_gen_cauchy1_matrix(matrix, n, k)
    rows = (ctypes.c_ubyte * ((n - k) * k)).from_buffer(matrix, k * k)
    tables = (ctypes.c_ubyte * (32 * k * (n - k)))()
    library.ec_init_tables(k, n - k, rows, tables)
    size = len(units[0])
    parity = [ctypes.create_string_buffer(size) for _ in range(n - k)]
    sources = (ctypes.c_char_p * k)(*units)
    targets = (ctypes.c_void_p * (n - k))(*(ctypes.addressof(buffer) for buffer in parity))
    library.ec_encode_data(size, k, n - k, tables, sources, targets)
    return [buffer.raw for buffer in parity]


@pytest.fixture(scope="module")
def isal() -> ctypes.CDLL:
    name = ctypes.util.find_library("isal")
    if name is None:
        pytest.skip("NOT COMPARED WITH ISA-L: install the Debian package libisal2")
    return ctypes.CDLL(name)


@given(code=codes(60), size=st.sampled_from([1, 31, 64, 257]), data=st.data())
def test_parity_is_bit_identical_to_isal(
    isal: ctypes.CDLL, code: tuple[int, int], size: int, data: st.DataObject
) -> None:
    """A fast library can take over at any time; codes with k = 1 are copies in ours."""
    k, n = code
    if k in {1, n}:
        return
    seed = data.draw(st.randoms(use_true_random=False))
    units = [seed.randbytes(size) for _ in range(k)]
    assert Coder(k, n).encode(units) == isal_parity(isal, k, n, units)


def test_whole_stripes_are_bit_identical_to_isal(isal: ctypes.CDLL) -> None:
    """Also at the size and the spread that calls use."""
    units = [bytes((index * at + at // 251) & 255 for at in range(65_536)) for index in range(4)]
    assert Coder(4, 6).encode(units) == isal_parity(isal, 4, 6, units)
