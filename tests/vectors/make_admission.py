"""Writes the vectors of admissions of registered filers.

Run from the project's folder: ``python -m tests.vectors.make_admission``.
"""

from __future__ import annotations

from typing import Any

from bistro.crypto.digest import sha256
from bistro.wire.codec import encode
from tests.vectors.making import (
    COMMITMENT,
    KEY,
    NOT_VERIFIED,
    OTHER,
    bad,
    changed,
    every_frame,
    good,
    write,
)

PREFIX = b"bistro/admission/v1\n"
TERMS = sha256(b"terms")
FOR = {"commitment": COMMITMENT.hex(), "terms_hash": TERMS.hex()}


def admission(slot: str = "main", *, prefix: bytes = PREFIX, terms: bytes = TERMS) -> list[Any]:
    """What the holder of the key signs for the worked example."""
    signature = KEY.sign(prefix + COMMITMENT + terms + slot.encode())
    return [KEY.public_key().public_bytes_raw(), slot, signature]


def make_admissions() -> None:
    """Admissions as they are encoded, with what they are for."""
    one, longest = admission(), admission("Z" * 64)
    elsewhere = {**FOR, "commitment": OTHER.hex()}
    write(
        "admission",
        [
            good("one", encode(one), slot="main", hash=sha256(encode(one)).hex(), **FOR),
            good(
                "the longest slot",
                encode(longest),
                slot="Z" * 64,
                hash=sha256(encode(longest)).hex(),
                **FOR,
            ),
        ],
        [
            *[{**case, **FOR} for case in every_frame(encode(one))],
            bad("without a signature", encode(one[:2]), "three fields", **FOR),
            bad("a fourth field", encode([*one, None]), "three fields", **FOR),
            bad("a key of 31 bytes", encode(changed(one, 0, bytes(31))), "32 bytes", **FOR),
            bad("a key in hex", encode(changed(one, 0, one[0].hex())), "bytes", **FOR),
            bad("no slot", encode(changed(one, 1, "")), "at least one letter", **FOR),
            bad("a slot of 65", encode(changed(one, 1, "a" * 65)), "at most 64", **FOR),
            bad("a slot with a space", encode(changed(one, 1, "a b")), "letters", **FOR),
            bad("a short signature", encode(changed(one, 2, one[2][:63])), "64 bytes", **FOR),
            bad(
                "another slot than was signed",
                encode(changed(one, 1, "other")),
                "the signature covers the slot",
                NOT_VERIFIED,
                **FOR,
            ),
            bad(
                "for another commitment",
                encode(one),
                "the signature covers the commitment",
                NOT_VERIFIED,
                **elsewhere,
            ),
            bad(
                "for another version of the terms",
                encode(admission(terms=OTHER)),
                "the signature covers the terms hash",
                NOT_VERIFIED,
                **FOR,
            ),
            bad(
                "signed as a header",
                encode(admission(prefix=b"bistro/header/v1\n")),
                "the signature covers its domain",
                NOT_VERIFIED,
                **FOR,
            ),
            bad(
                "the key of nobody",
                encode([b"\1" + bytes(31), "main", b"\1" + bytes(63)]),
                "a point of small order would sign anything",
                NOT_VERIFIED,
                **FOR,
            ),
        ],
    )


if __name__ == "__main__":
    make_admissions()
