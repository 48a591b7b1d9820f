"""What the scripts that make vectors share: cases, files, and the worked example.

The example is that of docs/spec/fragments.md: an envelope of the five bytes ``hello``. Keys come
from fixed seeds, so that every run writes the same files. Encodings are put together from plain
values, not by the classes that the vectors test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bistro.crypto.digest import leaf_hash, node_hash, sha256
from bistro.crypto.treehash import tree_hash
from bistro.wire.codec import encode

FOLDER = Path(__file__).resolve().parent
MALFORMED = "malformed"
NOT_VERIFIED = "not-verified"

Case = dict[str, Any]


def good(name: str, data: bytes | str, **fields: Any) -> Case:
    """A valid case with what else is known about it."""
    return {"name": name, "data": data if isinstance(data, str) else data.hex(), **fields}


def bad(name: str, data: bytes | str, why: str, code: str = MALFORMED, **fields: Any) -> Case:
    """An invalid case with the code of its error."""
    return good(name, data, code=code, why=why, **fields)


def changed(values: list[Any], at: int, value: Any) -> list[Any]:
    """``values`` with another one at one place."""
    return [*values[:at], value, *values[at + 1 :]]


def write(
    name: str, valid: list[Case], invalid: list[Case], *, is_text: bool = False, note: str = ""
) -> None:
    """Write one file of vectors."""
    file: dict[str, Any] = {"kind": name}
    if note:
        file["note"] = note
    if is_text:
        file["encoding"] = "text"
    file |= {"valid": valid, "invalid": invalid}
    text = json.dumps(file, ensure_ascii=False, indent=1) + "\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


def every_frame(data: bytes) -> list[Case]:
    """What is wrong with any encoding, whatever it encodes."""
    return [
        bad("nothing", b"", "no bytes at all"),
        bad("cut off", data[:-1], "the last byte is missing"),
        bad("a byte too many", data + b"\xc0", "something follows the value"),
        bad("a map", b"\x80", "maps have no place here"),
        bad("its own encoding as bytes", encode(data), "a second form of one value"),
        bad("text for an array", b"\xa1x", "expected an array"),
        bad(
            "a length in a longer form",
            b"\xdc\x00" + bytes([data[0] & 0x0F]) + data[1:],
            "array16 where fixarray is the shortest form",
        ),
    ]


KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
HEADER: list[Any] = [
    1,
    sha256(b"terms"),
    sha256(b"manifest"),
    KEY.public_key().public_bytes_raw(),
    "main",
    "submit",
    None,
    bytes(range(32)),
]
LAYOUT: list[Any] = [1, tree_hash(b"hello"), 5, 2, 3]
FRAGMENTS = [b"hel", b"lo\x00", bytes.fromhex("109936")]
DESCRIPTORS: list[list[Any]] = [[index, 3, tree_hash(data)] for index, data in enumerate(FRAGMENTS)]
LEAVES = [leaf_hash(encode(descriptor)) for descriptor in DESCRIPTORS]
ROOT = node_hash(node_hash(LEAVES[0], LEAVES[1]), LEAVES[2])
HEADER_LEAF = leaf_hash(encode(HEADER))
COMMITMENT = node_hash(HEADER_LEAF, node_hash(leaf_hash(encode(LAYOUT)), ROOT))
OTHER = sha256(b"other")


PROMISE = "c2sp.org/tlog-proof@v1\nindex 0\n\npermits.example/spring\n1\n…\n"
CLAIM: list[Any] = [
    1,
    "permits.example/spring",
    PROMISE,
    encode(LAYOUT),
    HEADER_LEAF,
    encode(DESCRIPTORS[1]),
    [LEAVES[0], LEAVES[2]],
]
