"""Writes the vectors of tree hashes, striping, layouts, descriptors, commitments and claims.

Run from the project's folder: ``python -m tests.vectors.make_fragments``.
"""

from __future__ import annotations

from typing import Any

from bistro.crypto.digest import leaf_hash, node_hash, sha256
from bistro.crypto.erasure import Coder
from bistro.crypto.erasure_python import PythonKernel
from bistro.crypto.treehash import tree_hash
from bistro.wire.codec import encode
from tests.vectors.making import (
    CLAIM,
    COMMITMENT,
    DESCRIPTORS,
    HEADER,
    HEADER_LEAF,
    LAYOUT,
    LEAVES,
    OTHER,
    ROOT,
    Case,
    bad,
    changed,
    every_frame,
    good,
    write,
)

UNIT = 65_536
STRIPES = [
    ("one byte, one copy", 1, 1, 1),
    ("one byte in two data fragments", 1, 2, 3),
    ("five bytes", 5, 2, 3),
    ("copies", 70_000, 1, 3),
    ("exactly one row", 131_072, 2, 3),
    ("one byte more than a row", 131_073, 2, 3),
    ("three rows and an odd rest", 400_003, 2, 4),
    ("a rest of more than a unit", 5 * UNIT + 1, 4, 6),
    ("wide", 300_000, 10, 14),
    ("no parity", 200_001, 3, 3),
    ("largest code", 1_000, 200, 255),
]


def root_of(nodes: list[bytes]) -> bytes:
    """The Merkle root, as RFC 9162 defines it: by splitting."""
    if len(nodes) < 2:
        return nodes[0] if nodes else sha256(b"")
    split = 1 << (len(nodes) - 1).bit_length() - 1
    return node_hash(root_of(nodes[:split]), root_of(nodes[split:]))


def by_definition(data: bytes) -> bytes:
    """The tree hash, of all pieces at once."""
    return root_of([leaf_hash(data[at : at + UNIT]) for at in range(0, len(data), UNIT)])


def example_bytes(size: int, factor: int = 7) -> bytes:
    """Byte i is ``(i * factor + i // 256) mod 256``."""
    return bytes((at * factor + at // 256) % 256 for at in range(size))


def make_tree_hash() -> None:
    """Strings at the edges of pieces and of complete trees."""
    sizes = [0, 1, 5, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT, 2 * UNIT + 1, 3 * UNIT, 4 * UNIT]
    sizes += [4 * UNIT + 9, 7 * UNIT - 1, 8 * UNIT, 13 * UNIT + 100]
    valid = [
        good(f"{size} bytes", by_definition(example_bytes(size)), size=size, factor=7)
        for size in sizes
    ]
    note = "data is the tree hash of a string whose byte i is (i * factor + i // 256) mod 256"
    write("tree-hash", valid, [], note=note)


def make_striping() -> None:
    """Envelopes cut row by row, all rows at hand; fragments named by their hashes."""

    def case(name: str, size: int, k: int, n: int) -> Case:
        envelope = example_bytes(size)
        fragments = [b""] * n
        for at in range(0, size, k * UNIT):
            row = envelope[at : at + k * UNIT]
            unit = -(-len(row) // k)
            row = row.ljust(k * unit, b"\0")
            units = [row[j * unit : (j + 1) * unit] for j in range(k)]
            units += Coder(k, n, kernel=PythonKernel()).encode(units)
            fragments = [whole + part for whole, part in zip(fragments, units, strict=True)]
        hashes = list(map(by_definition, fragments))
        descriptors: list[list[Any]] = [[i, len(fragments[i]), hashes[i]] for i in range(n)]
        return good(
            name,
            encode([1, by_definition(envelope), size, k, n]),
            size=size,
            k=k,
            n=n,
            factor=7,
            envelope=by_definition(envelope).hex(),
            fragment_size=len(fragments[0]),
            fragments=[one.hex() for one in hashes],
            root=root_of([leaf_hash(encode(one)) for one in descriptors]).hex(),
        )

    note = (
        "data is the encoded layout; byte i of the envelope is (i * factor + i // 256) mod 256; "
        "envelope and fragments are tree hashes; root is F over the descriptors"
    )
    write("striping", [case(*stripe) for stripe in STRIPES], [], note=note)


def make_layout_and_descriptor() -> None:
    """How an envelope is cut."""

    def sized(size: int, k: int, n: int, fragment_size: int) -> Case:
        layout: list[Any] = [1, sha256(b"e"), size, k, n]
        data = encode(layout)
        return good(
            f"{size} bytes, {k} of {n}",
            data,
            fragment_size=fragment_size,
            leaf=leaf_hash(data).hex(),
        )

    write(
        "layout",
        [
            good(
                "the worked example",
                encode(LAYOUT),
                fragment_size=3,
                leaf=leaf_hash(encode(LAYOUT)).hex(),
            ),
            sized(131_075, 2, 3, 65_538),
            sized(131_072, 2, 3, 65_536),
            sized(1, 255, 255, 1),
            sized(2**40, 1, 1, 2**40),
        ],
        [
            *every_frame(encode(LAYOUT)),
            bad("version 2", encode(changed(LAYOUT, 0, 2)), "only version 1 exists"),
            bad("a hash of 33 bytes", encode(changed(LAYOUT, 1, bytes(33))), "32 bytes"),
            bad("an empty envelope", encode(changed(LAYOUT, 2, 0)), "at least one byte"),
            bad("an envelope over 1 TiB", encode(changed(LAYOUT, 2, 2**40 + 1)), "at most 2^40"),
            bad("k = 0", encode(changed(LAYOUT, 3, 0)), "k is at least 1"),
            bad("k above n", encode(changed(LAYOUT, 3, 4)), "k is at most n"),
            bad("n = 256", encode(changed(LAYOUT, 4, 256)), "n is at most 255"),
            bad("k = true", encode(changed(LAYOUT, 3, True)), "a boolean is no integer"),
            bad(
                "a size in a longer form",
                encode(LAYOUT).replace(b"\x05\x02\x03", b"\xcc\x05\x02\x03"),
                "uint8 where fixint is the shortest form",
            ),
            bad("a negative size", encode(LAYOUT).replace(b"\x05\x02\x03", b"\xff\x02\x03"), "-1"),
            bad(
                "a size that is a float",
                encode(LAYOUT).replace(b"\x05\x02\x03", b"\xca\x40\xa0\x00\x00\x02\x03"),
                "5.0",
            ),
        ],
    )
    descriptor = DESCRIPTORS[1]
    write(
        "descriptor",
        [
            good(
                f"fragment {index} of the worked example",
                encode(one),
                index=index,
                size=3,
                leaf=leaf_hash(encode(one)).hex(),
            )
            for index, one in enumerate(DESCRIPTORS)
        ]
        + [
            good(
                "the last of the largest",
                encode([254, 2**40, OTHER]),
                index=254,
                size=2**40,
                leaf=leaf_hash(encode([254, 2**40, OTHER])).hex(),
            )
        ],
        [
            *every_frame(encode(descriptor)),
            bad("index 255", encode(changed(descriptor, 0, 255)), "at most 254"),
            bad("index true", encode(changed(descriptor, 0, True)), "a boolean is no integer"),
            bad("size 0", encode(changed(descriptor, 1, 0)), "at least one byte"),
            bad("a size over 1 TiB", encode(changed(descriptor, 1, 2**40 + 1)), "at most 2^40"),
            bad("a hash in hex", encode(changed(descriptor, 2, OTHER.hex())), "bytes, not text"),
            bad("a hash of 20 bytes", encode(changed(descriptor, 2, bytes(20))), "32 bytes"),
            bad("a version in front", encode([1, *descriptor]), "three fields"),
            bad("index as text", encode(changed(descriptor, 0, "1")), "an integer"),
        ],
    )


def make_commitment() -> None:
    """All parts of a commitment: ``[header, layout, [descriptor…]]``, each one encoded."""

    def parts(header: list[Any], layout: list[Any], descriptors: list[Any]) -> bytes:
        return encode([encode(header), encode(layout), [encode(one) for one in descriptors]])

    def single(layout: list[Any], descriptor: list[Any]) -> str:
        root = leaf_hash(encode(descriptor))
        return node_hash(HEADER_LEAF, node_hash(leaf_hash(encode(layout)), root)).hex()

    one: list[Any] = [1, tree_hash(b"hello"), 5, 1, 1]
    whole: list[Any] = [0, 5, tree_hash(b"hello")]
    paths = [[LEAVES[1], LEAVES[2]], [LEAVES[0], LEAVES[2]], [node_hash(LEAVES[0], LEAVES[1])]]
    write(
        "commitment",
        [
            good(
                "the worked example",
                parts(HEADER, LAYOUT, DESCRIPTORS),
                root=ROOT.hex(),
                commitment=COMMITMENT.hex(),
                paths=[[h.hex() for h in path] for path in paths],
            ),
            good(
                "one fragment, its root is its leaf",
                parts(HEADER, one, [whole]),
                root=leaf_hash(encode(whole)).hex(),
                commitment=single(one, whole),
                paths=[[]],
            ),
        ],
        [
            bad("a descriptor is missing", parts(HEADER, LAYOUT, DESCRIPTORS[:2]), "n is 3"),
            bad("a descriptor too many", parts(HEADER, LAYOUT, [*DESCRIPTORS, [3, 3, OTHER]]), "3"),
            bad("no descriptors", parts(HEADER, LAYOUT, []), "n is 3"),
            bad(
                "two swapped",
                parts(HEADER, LAYOUT, [DESCRIPTORS[1], DESCRIPTORS[0], DESCRIPTORS[2]]),
                "in the order of their indexes",
            ),
            bad(
                "one twice",
                parts(HEADER, LAYOUT, [DESCRIPTORS[0], DESCRIPTORS[0], DESCRIPTORS[2]]),
                "each once",
            ),
            bad(
                "indexes from 1",
                parts(HEADER, LAYOUT, [[1, 3, OTHER], [2, 3, OTHER], [3, 3, OTHER]]),
                "they begin at 0",
            ),
            bad(
                "one of another size",
                parts(HEADER, LAYOUT, changed(DESCRIPTORS, 2, [2, 4, OTHER])),
                "all have the size that the layout gives",
            ),
            bad(
                "a size that is the envelope's",
                parts(HEADER, LAYOUT, [[i, 5, OTHER] for i in range(3)]),
                "each fragment is a k-th",
            ),
            bad(
                "a bad layout", parts(HEADER, changed(LAYOUT, 3, 0), DESCRIPTORS), "k is at least 1"
            ),
            bad("a bad header", parts(HEADER[:-1], LAYOUT, DESCRIPTORS), "eight fields"),
        ],
    )


def make_claim() -> None:
    """Claims; their promises are any text here, for promises have vectors of their own."""
    third = changed(changed(CLAIM, 5, encode(DESCRIPTORS[2])), 6, [node_hash(LEAVES[0], LEAVES[1])])
    write(
        "claim",
        [
            good("fragment 1", encode(CLAIM), commitment=COMMITMENT.hex(), index=1),
            good(
                "fragment 2, whose path is shorter",
                encode(third),
                commitment=COMMITMENT.hex(),
                index=2,
            ),
        ],
        [
            *every_frame(encode(CLAIM)),
            bad("version 2", encode(changed(CLAIM, 0, 2)), "only version 1 exists"),
            bad("an origin without call", encode(changed(CLAIM, 1, "permits.example")), "no slash"),
            bad(
                "an origin in capitals",
                encode(changed(CLAIM, 1, "Permits.example/a")),
                "lower case",
            ),
            bad("an origin without a dot", encode(changed(CLAIM, 1, "permits/spring")), "a dot"),
            bad("no promise", encode(changed(CLAIM, 2, "")), "at least one character"),
            bad("a promise as bytes", encode(changed(CLAIM, 2, b"x")), "text, not bytes"),
            bad(
                "a promise of 5,000 bytes", encode(changed(CLAIM, 2, "x" * 5_000)), "at most 4,096"
            ),
            bad(
                "a layout that is not encoded",
                encode(changed(CLAIM, 3, LAYOUT)),
                "it stands encoded",
            ),
            bad(
                "a layout with k above n",
                encode(changed(CLAIM, 3, encode(changed(LAYOUT, 3, 9)))),
                "k is at most n",
            ),
            bad("a header leaf of 31 bytes", encode(changed(CLAIM, 4, bytes(31))), "32 bytes"),
            bad(
                "an index that n excludes",
                encode(changed(CLAIM, 5, encode([3, 3, OTHER]))),
                "n is 3",
            ),
            bad(
                "a size that the layout excludes",
                encode(changed(CLAIM, 5, encode([1, 4, OTHER]))),
                "the layout gives 3 bytes",
            ),
            bad(
                "a path too short", encode(changed(CLAIM, 6, LEAVES[:1])), "two hashes for index 1"
            ),
            bad("a path too long", encode(changed(CLAIM, 6, LEAVES)), "two hashes for index 1"),
            bad("a path of nine hashes", encode(changed(CLAIM, 6, [OTHER] * 9)), "at most eight"),
            bad(
                "a path with a short hash",
                encode(changed(CLAIM, 6, [OTHER, bytes(31)])),
                "32 bytes",
            ),
            bad("no path", encode(changed(CLAIM, 6, None)), "an array, perhaps empty"),
            bad("a field too many", encode([*CLAIM, None]), "seven fields"),
        ],
    )


if __name__ == "__main__":
    make_tree_hash()
    make_striping()
    make_layout_and_descriptor()
    make_commitment()
    make_claim()
