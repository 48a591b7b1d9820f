"""The functions for whole batches do as their definitions say, in C and in Python."""

import importlib
import shutil
import sysconfig
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto import bulk, bulk_python
from bistro.crypto.digest import leaf_hash, node_hash
from bistro.crypto.merkle import BatchTree, Frontier
from bistro.ledger.proofs import format_proof

MAGIC = b"c2sp.org/tlog-proof@v1\nextra "
NAMES = tuple(name for name in bulk.__all__ if name != "IS_COMPILED")
_CAN_COMPILE = shutil.which("cc") and Path(sysconfig.get_path("include"), "Python.h").exists()
HASHES = [leaf_hash(b"%d" % number) for number in range(700)]


@pytest.fixture(params=["c", "python"], scope="module")
def functions(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "python":
        return bulk_python
    if not bulk.IS_COMPILED and not _CAN_COMPILE:
        pytest.skip("not compiled: there is no C compiler, or no headers of Python")
    return importlib.import_module("bistro.crypto._bulk")


def test_what_is_compiled_is_used() -> None:
    """Else the difference would be seen in benchmarks only."""
    home = importlib.import_module("bistro.crypto._bulk") if bulk.IS_COMPILED else bulk_python
    assert all(getattr(bulk, name) is getattr(home, name) for name in NAMES)


@given(entries=st.lists(st.binary(max_size=300), max_size=20))
def test_leaves_are_hashed_as_rfc_9162_says(functions: ModuleType, entries: list[bytes]) -> None:
    """Each for itself, whatever its length."""
    assert functions.leaf_hashes(entries) == list(map(leaf_hash, entries))


@given(old_size=st.integers(0, 300), count=st.integers(0, 300))
def test_a_tree_grows_as_rfc_9162_says(functions: ModuleType, old_size: int, count: int) -> None:
    """Its nodes are hashes of what is below them, its highest one is the root of all leaves."""
    frontier = Frontier.empty().extend(HASHES[:old_size])
    whole = HASHES[: old_size + count]
    levels = functions.tree_levels(old_size, list(frontier.nodes), HASHES[old_size:][:count])
    assert len(levels) == max(len(whole) - 1, 0).bit_length() + 1
    below = whole
    for level, (first, nodes) in enumerate(levels):
        assert first in {old_size >> level, (old_size >> level) - 1}
        assert nodes == below[first:]
        pairs = zip(below[::2], below[1::2], strict=False)
        below = [node_hash(*pair) for pair in pairs] + below[len(below) & ~1 :]


@pytest.mark.parametrize(
    ("old_size", "old_nodes", "leaves"),
    [(1, [], HASHES[:1]), (3, HASHES[:1], HASHES[:1]), (0, [], [b"short", b"short"])],
)
def test_a_tree_that_is_none_is_refused(
    old_size: int, old_nodes: list[bytes], leaves: list[bytes]
) -> None:
    """In C, where nothing else would."""
    functions = pytest.importorskip("bistro.crypto._bulk")
    with pytest.raises(ValueError, match=r"old tree|hash of 32 bytes"):
        functions.tree_levels(old_size, old_nodes, leaves)


@given(secret=st.binary(min_size=16, max_size=16), texts=st.lists(st.binary(max_size=99)))
def test_keyed_digests_are_cut_hashes_behind_a_secret(
    functions: ModuleType, secret: bytes, texts: list[bytes]
) -> None:
    """One for each text, in order; another secret makes others."""
    expected = [sha256(secret + text).digest()[:16] for text in texts]
    assert functions.keyed_digests(secret, texts) == b"".join(expected)


@given(
    old_size=st.integers(0, 600),
    sizes=st.lists(st.integers(1, 1_024), min_size=1, max_size=100),
    numbered=st.none() | st.binary(max_size=9),
    data=st.data(),
)
def test_texts_are_those_of_single_proofs(
    functions: ModuleType,
    old_size: int,
    sizes: list[int],
    numbered: bytes | None,
    data: st.DataObject,
) -> None:
    """Behind what depends on their size, and behind numbers."""
    entries = [bytes(range(256)) * 4 for _ in sizes]
    entries = [entry[:size] for entry, size in zip(entries, sizes, strict=True)]
    begin = data.draw(st.integers(0, len(entries)))
    end = data.draw(st.integers(begin, len(entries)))
    tree = BatchTree(Frontier.empty().extend(HASHES[:old_size]), functions.leaf_hashes(entries))
    note = b"note with 100 % of its lines\n"
    texts = functions.proof_texts(
        *(tree.levels, entries, old_size, begin, end, MAGIC, b"\n" + note),
        lambda size: b":%d:" % size,
        numbered,
    )
    expected = [
        format_proof(
            entry=entries[at],
            index=old_size + at,
            path=tree.inclusion_path(old_size + at),
            note=note,
        )
        for at in range(begin, end)
    ]
    assert texts == [
        (b"" if numbered is None else b"%b%04x" % (numbered, number)) + b":%d:" % len(one) + one
        for number, one in enumerate(expected)
    ]


def test_what_stands_before_is_asked_once_for_each_size(functions: ModuleType) -> None:
    """A batch of tickets has one size or two, so this costs nothing for each."""
    entries = [b"a" * 10, b"b" * 20] * 50
    tree = BatchTree(Frontier.empty(), functions.leaf_hashes(entries))
    asked: list[int] = []

    def before(size: int) -> bytes:
        asked.append(size)
        return b""

    functions.proof_texts(tree.levels, entries, 0, 0, 64, MAGIC, b"\n", before, None)
    assert len(asked) == len(set(asked)) <= 6


@given(rows=st.lists(st.binary(min_size=3, max_size=3), max_size=200), is_sorted=st.booleans())
def test_rows_are_sorted_as_bytes(
    functions: ModuleType, rows: list[bytes], *, is_sorted: bool
) -> None:
    """Also where they were, or partly."""
    given_rows = sorted(rows[:100]) + sorted(rows[100:]) if is_sorted else rows
    assert functions.sorted_rows(b"".join(given_rows), 3) == b"".join(sorted(rows))


@pytest.mark.parametrize(("size", "width"), [(10, 3), (10, 0), (10, -2), (1, 2)])
def test_what_are_no_rows_is_refused(functions: ModuleType, size: int, width: int) -> None:
    """Nothing behind the end is read."""
    with pytest.raises(ValueError, match="no rows"):
        functions.sorted_rows(bytes(size), width)


@pytest.mark.parametrize(("begin", "end"), [(-1, 1), (0, 3), (2, 1)])
def test_entries_that_are_not_there_are_refused(
    functions: ModuleType, begin: int, end: int
) -> None:
    """Nothing outside of a batch is read."""
    entries = [b"a", b"b"]
    tree = BatchTree(Frontier.empty(), functions.leaf_hashes(entries))
    with pytest.raises(IndexError, match="no such entries"):
        functions.proof_texts(tree.levels, entries, 0, begin, end, b"", b"", bytes, None)


@pytest.mark.parametrize("wrong", [None, 1, "text", bytearray(32)])
def test_only_bytes_are_hashed_in_c(functions: ModuleType, wrong: object) -> None:
    """Whatever else is in a list is an error, not memory that is read."""
    if functions is bulk_python and isinstance(wrong, bytearray):
        pytest.skip("in Python a bytearray is as good")
    with pytest.raises(TypeError):
        functions.leaf_hashes([b"", wrong])
    with pytest.raises(TypeError):
        functions.tree_levels(0, [], [bytes(32), wrong])
    with pytest.raises(TypeError):
        functions.keyed_digests(bytes(16), [wrong])


def test_nodes_of_another_size_are_refused_in_c() -> None:
    """Each is copied to a place of 45 bytes."""
    functions = pytest.importorskip("bistro.crypto._bulk")
    with pytest.raises(ValueError, match="expected a hash of 32 bytes, found 33"):
        functions.tree_levels(0, [], [bytes(32), bytes(33)])
    levels = [(0, [bytes(32), bytes(31)]), (0, [bytes(32)])]
    with pytest.raises(ValueError, match="expected a hash of 32 bytes, found 31"):
        functions.proof_texts(levels, [b"a"], 0, 0, 1, b"", b"", bytes, None)
    with pytest.raises(ValueError, match="too many levels"):
        functions.proof_texts([(0, [])] * 65, [b"a"], 0, 0, 1, b"", b"", bytes, None)


def test_an_error_of_the_caller_is_passed_on(functions: ModuleType) -> None:
    """Whatever asks what stands before may refuse."""

    def before(size: int) -> bytes:
        raise RuntimeError(f"{size} bytes")

    tree = BatchTree(Frontier.empty(), functions.leaf_hashes([b"a"]))
    with pytest.raises(RuntimeError, match="bytes"):
        functions.proof_texts(tree.levels, [b"a"], 0, 0, 1, b"", b"", before, None)


DIGESTS = st.lists(st.binary(min_size=8, max_size=8), max_size=60)


@given(added=DIGESTS, asked=DIGESTS, bits=st.integers(1, 12))
def test_what_was_added_is_known(
    functions: ModuleType, added: list[bytes], asked: list[bytes], bits: int
) -> None:
    """And of the rest what has the same first bits, and the same bytes somewhere behind them."""
    buckets = [b""] * (1 << bits)
    for some in (added[:20], added[20:]):
        functions.add_prints(buckets, b"".join(some), 8, bits)
    expected = [b""] * (1 << bits)
    for digest in added:
        expected[int.from_bytes(digest[:4]) >> (32 - bits)] += digest[4:7]
    assert buckets == expected
    everything = added + asked
    known = functions.known_prints(buckets, b"".join(everything), 8, bits)
    assert known == [
        at
        for at, digest in enumerate(everything)
        if digest[4:7] in expected[int.from_bytes(digest[:4]) >> (32 - bits)]
    ]
    assert known[: len(added)] == list(range(len(added)))


@pytest.mark.parametrize(("size", "width", "bits"), [(8, 6, 4), (9, 8, 4), (8, 8, 0), (8, 8, 33)])
def test_what_are_no_digests_is_refused(
    functions: ModuleType, size: int, width: int, bits: int
) -> None:
    """Nothing outside of them, or of the buckets, is read."""
    for function in (functions.add_prints, functions.known_prints):
        with pytest.raises(ValueError, match="no digests"):
            function([b""] * 16, bytes(size), width, bits)


def test_buckets_that_are_missing_are_an_error(functions: ModuleType) -> None:
    """Not memory behind the list."""
    for function in (functions.add_prints, functions.known_prints):
        with pytest.raises(IndexError):
            function([b""], b"\xff" * 8, 8, 4)


@given(rows=st.lists(st.tuples(st.binary(max_size=254), st.binary(min_size=1)), max_size=30))
def test_columns_are_sizes_then_keys_then_entries(
    functions: ModuleType, rows: list[tuple[bytes, bytes]]
) -> None:
    """A key's size is one higher than it is, so that none is zero."""
    keys, entries = [key for key, _ in rows], [entry for _, entry in rows]
    expected = bytes(len(key) + 1 for key in keys)
    expected += b"".join(len(entry).to_bytes(2) for entry in entries)
    assert functions.joined_columns(keys, entries) == expected + b"".join(keys + entries)


@pytest.mark.parametrize(
    ("key_size", "entry_size"), [(255, 1), (300, 1), (0, 0), (1, 65_536), (1, 1 << 20)]
)
def test_columns_have_limits(functions: ModuleType, key_size: int, entry_size: int) -> None:
    """What does not fit into its size is refused, not cut; the largest that fits is taken."""
    whole = functions.joined_columns([bytes(254)], [bytes(65_535)])
    assert whole == b"\xff\xff\xff" + bytes(254 + 65_535)
    with pytest.raises(ValueError, match=r"."):
        functions.joined_columns([b"", bytes(key_size)], [b"a", bytes(entry_size)])


def test_columns_are_equally_long(functions: ModuleType) -> None:
    """Else a key would stand for another entry."""
    for keys, entries in (([b"a"], []), ([], [b"a"])):
        with pytest.raises(ValueError, match=r"."):
            functions.joined_columns(keys, entries)


@given(digests=st.lists(st.binary(max_size=40), max_size=20), ends=st.binary(max_size=9))
def test_entries_are_digits_between_what_all_share(
    functions: ModuleType, digests: list[bytes], ends: bytes
) -> None:
    """Lower case, as everywhere."""
    expected = [b"100 % " + digest.hex().encode() + ends for digest in digests]
    assert functions.spelled_entries(b"100 % ", digests, ends) == expected


@given(
    pieces=st.lists(st.binary(min_size=3, max_size=3), min_size=1, max_size=20),
    head=st.binary(max_size=3),
    rest=st.binary(max_size=5),
)
def test_texts_that_are_alike_are_cut(
    functions: ModuleType, pieces: list[bytes], head: bytes, rest: bytes
) -> None:
    """Into what differs and what all share, an empty rest as well."""
    texts = [head + piece + rest for piece in pieces]
    assert functions.cut_alike(texts, head, 3) == (pieces, rest)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [b"ab"],
        [b"ab345", b"ab34"],
        [b"ab345z", b"ab345y"],
        [b"ab345z", b"ab345"],
        [b"ab345", b"ac345"],
        [b"ac345", b"ac345"],
        [b"", b""],
    ],
)
def test_texts_that_differ_elsewhere_are_not_cut(functions: ModuleType, texts: list[bytes]) -> None:
    """Nor those that are too short, or none."""
    assert functions.cut_alike(texts, b"ab", 3) is None
    assert functions.cut_alike(texts, b"ab", -1) is None
