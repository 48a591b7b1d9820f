"""Verifies a published log from a folder alone: what a monitor does behind any web server.

Written from RFC 9162 and C2SP (signed-note, tlog-checkpoint, tlog-tiles); nothing of the code
under test is used.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def root(hashes: list[bytes]) -> bytes:
    """The Merkle tree hash, by its recursive definition."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\x01" + root(hashes[:split]) + root(hashes[split:])).digest()


def spell(number: int) -> str:
    groups = [f"{number % 1_000:03d}"]
    while number := number // 1_000:
        groups.insert(0, f"x{number % 1_000:03d}")
    return "/".join(groups)


def read_tile(folder: Path, level: int | str, number: int, width: int) -> bytes:
    partial = "" if width == 256 else f".p/{width}"
    return (folder / f"tile/{level}/{spell(number)}{partial}").read_bytes()


def read_checkpoint(folder: Path, vkey: str) -> tuple[str, int, bytes]:
    """Origin, size and root of the checkpoint, whose signature holds."""
    text, _, signatures = (folder / "checkpoint").read_text().rpartition("\n\n")
    text += "\n"
    origin, size, root_text = text.splitlines()
    name, _, key = vkey.split("+", 2)
    public = base64.b64decode(key)[1:]
    (line,) = [one for one in signatures.splitlines() if one.startswith(f"— {name} ")]
    Ed25519PublicKey.from_public_bytes(public).verify(
        base64.b64decode(line.split()[2])[4:], text.encode()
    )
    return origin, int(size), base64.b64decode(root_text)


def read_log(folder: Path, vkey: str) -> list[bytes]:
    """All entries of the published log; everything is compared with everything."""
    _, size, expected = read_checkpoint(folder, vkey)
    entries: list[bytes] = []
    for number in range(-(-size // 256)):
        bundle = read_tile(folder, "entries", number, min(size - number * 256, 256))
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            entries.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
    assert len(entries) == size
    hashes, level = list(map(leaf, entries)), 0
    assert root(hashes) == expected
    while hashes:
        for number in range(-(-len(hashes) // 256)):
            part = hashes[number * 256 : (number + 1) * 256]
            assert read_tile(folder, level, number, len(part)) == b"".join(part)
        full = len(hashes) // 256
        hashes = [root(hashes[at * 256 : (at + 1) * 256]) for at in range(full)]
        level += 1
    return entries
