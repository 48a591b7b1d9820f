"""Writes the vectors of tickets asked for, receipts shown, staged rows, batches and releases.

Run from the project's folder: ``python -m tests.vectors.make_messages``.
"""

from __future__ import annotations

from typing import Any

from bistro.crypto.digest import sha256
from bistro.wire.codec import encode
from tests.vectors.making import (
    CLAIM,
    COMMITMENT,
    KEY,
    OTHER,
    PROMISE,
    bad,
    changed,
    every_frame,
    good,
    write,
)

REQUEST: list[Any] = [1, COMMITMENT, sha256(b"terms"), None]
ADMISSION: list[Any] = [KEY.public_key().public_bytes_raw(), "main", bytes(64)]


def make_tickets() -> None:
    """Ticket requests and answers, alone and in arrays."""
    admitted = changed(REQUEST, 3, ADMISSION)
    write(
        "ticket-request",
        [
            good("one", encode(REQUEST), count=1, is_bulk=False),
            good("an array of one", encode([REQUEST]), count=1, is_bulk=True),
            good("an array of two", encode([REQUEST, admitted]), count=2, is_bulk=True),
            good("with an admission", encode(admitted), count=1, is_bulk=False),
        ],
        [
            *every_frame(encode(REQUEST)),
            bad("an empty array", encode([]), "1 to 1,000 items"),
            bad("an array in an array", encode([[REQUEST]]), "items are arrays of fields"),
            bad(
                "an item as encoded bytes", encode([encode(REQUEST)]), "a second form of one value"
            ),
            bad(
                "a hundred arrays that promise 300 items",
                b"\xdc\x01\x2c" * 100,
                "room is made only for what is there",
            ),
            bad("one bad item of two", encode([REQUEST, REQUEST[:3]]), "four fields"),
            bad("version 2", encode(changed(REQUEST, 0, 2)), "only version 1 exists"),
            bad("version true", encode(changed(REQUEST, 0, True)), "a boolean is no integer"),
            bad("a commitment of 31 bytes", encode(changed(REQUEST, 1, bytes(31))), "32 bytes"),
            bad("a commitment in hex", encode(changed(REQUEST, 1, COMMITMENT.hex())), "bytes"),
            bad("no terms hash", encode(changed(REQUEST, 2, None)), "32 bytes"),
            bad("a field too many", encode([*REQUEST, None]), "four fields"),
            bad("an admission that is text", encode(changed(REQUEST, 3, "me")), "an array or nil"),
            bad(
                "an admission without signature",
                encode(changed(REQUEST, 3, ADMISSION[:2])),
                "three",
            ),
            bad(
                "an admission for no slot",
                encode(changed(REQUEST, 3, changed(ADMISSION, 1, ""))),
                "a slot",
            ),
            bad(
                "an admission with a short key",
                encode(changed(REQUEST, 3, changed(ADMISSION, 0, b""))),
                "32",
            ),
        ],
    )
    answers: list[Any] = [[0, PROMISE], [1, PROMISE], [2, "overloaded", 1_500]]
    write(
        "ticket-answer",
        [
            good("a ticket", encode(answers[0]), count=1, is_bulk=False),
            good("a refusal", encode(answers[1]), count=1, is_bulk=False),
            good("not now", encode(answers[2]), count=1, is_bulk=False),
            good("all three", encode(answers), count=3, is_bulk=True),
            good(
                "a code nobody has heard of", encode([2, "out-of-ink", 0]), count=1, is_bulk=False
            ),
        ],
        [
            *every_frame(encode(answers[0])),
            bad("no answers", encode([]), "1 to 1,000 items"),
            bad("a fourth kind", encode([3, PROMISE]), "0, 1 or 2"),
            bad("kind false", encode([False, PROMISE]), "a boolean is no integer"),
            bad("an empty ticket", encode([0, ""]), "at least one byte"),
            bad("a ticket of 4,097 bytes", encode([0, "x" * 4_097]), "at most 4,096"),
            bad(
                "a ticket of 4,098 bytes in fewer characters",
                encode([0, "é" * 2_049]),
                "bytes count",
            ),
            bad("a ticket as bytes", encode([0, b"x"]), "text, not bytes"),
            bad("a ticket and a time", encode([0, PROMISE, 1]), "two fields"),
            bad("a refusal without text", encode([1]), "two fields"),
            bad("a code with a capital", encode([2, "Overloaded", 0]), "lower case"),
            bad("a code that ends in a hyphen", encode([2, "over-", 0]), "words between hyphens"),
            bad("an empty code", encode([2, "", 0]), "a word at least"),
            bad("no retry time", encode([2, "overloaded"]), "three fields"),
            bad(
                "a retry after more than a day",
                encode([2, "overloaded", 86_400_001]),
                "a day at most",
            ),
            bad(
                "a retry time that is nil", encode([2, "overloaded", None]), "0 where it is useless"
            ),
        ],
    )


def make_staging() -> None:
    """Receipts presented, rows of staged fragments, repairs."""
    claim = encode(CLAIM)
    receipt: list[Any] = [claim, PROMISE]
    write(
        "receipts",
        [
            good("one", encode([receipt]), count=1),
            good("255", encode([[b"x", "y"]] * 255), count=255),
            good(
                "a claim that is none, which its own answer will say",
                encode([[b"\x00", "y"]]),
                count=1,
            ),
        ],
        [
            *every_frame(encode([receipt])),
            bad("none", encode([]), "1 to 255 items"),
            bad("256", encode([[b"x", "y"]] * 256), "1 to 255 items"),
            bad("one without array", encode(receipt), "an array of items"),
            bad("an empty claim", encode([[b"", PROMISE]]), "at least one byte"),
            bad("a claim of 4,609 bytes", encode([[bytes(4_609), PROMISE]]), "at most 4,608"),
            bad("a claim as text", encode([["x", PROMISE]]), "bytes, not text"),
            bad("a receipt as bytes", encode([[claim, b"x"]]), "text, not bytes"),
            bad("an empty receipt", encode([[claim, ""]]), "at least one character"),
            bad("no receipt", encode([[claim]]), "two fields"),
            bad("a third field", encode([[*receipt, None]]), "two fields"),
        ],
    )
    row: list[Any] = [7, claim, 1_790_000_000_000]
    write(
        "staged",
        [
            good("nothing yet", encode([]), count=0),
            good("two rows", encode([row, changed(row, 0, 9)]), count=2),
        ],
        [
            *every_frame(encode([row])),
            bad("a cursor twice", encode([row, row]), "cursors grow"),
            bad("a cursor that goes back", encode([row, changed(row, 0, 6)]), "cursors grow"),
            bad("cursor 0", encode([changed(row, 0, 0)]), "above 0"),
            bad("cursor true", encode([changed(row, 0, True)]), "a boolean is no integer"),
            bad(
                "a cursor over 2^53",
                b"\x91\x93\xcf\x00\x40\x00\x00\x00\x00\x00\x00\xc4\x01x\x00",
                "2^54",
            ),
            bad("an empty claim", encode([changed(row, 1, b"")]), "at least one byte"),
            bad("a claim as text", encode([changed(row, 1, "x")]), "bytes, not text"),
            bad("no hold", encode([changed(row, 2, None)]), "a time"),
            bad(
                "a hold beyond the year 9999",
                encode([changed(row, 2, 253_402_300_800_000)]),
                "too late",
            ),
            bad("a fourth field", encode([[*row, 1]]), "three fields"),
        ],
    )
    repair: list[Any] = [3, COMMITMENT, [0, 2], 1_790_000_000_000]
    write(
        "repairs",
        [
            good("nothing lost", encode([]), count=0),
            good("two fragments of one submission", encode([repair]), count=1),
            good(
                "all of two",
                encode([changed(repair, 2, list(range(255))), changed(repair, 0, 4)]),
                count=2,
            ),
        ],
        [
            *every_frame(encode([repair])),
            bad("cursors that do not grow", encode([repair, repair]), "cursors grow"),
            bad("cursor 0", encode([changed(repair, 0, 0)]), "above 0"),
            bad("a commitment of 33 bytes", encode([changed(repair, 1, bytes(33))]), "32 bytes"),
            bad("no indexes", encode([changed(repair, 2, [])]), "at least one"),
            bad("an index twice", encode([changed(repair, 2, [1, 1])]), "indexes grow"),
            bad("indexes out of order", encode([changed(repair, 2, [2, 0])]), "indexes grow"),
            bad("index 255", encode([changed(repair, 2, [255])]), "at most 254"),
            bad("an index as text", encode([changed(repair, 2, ["1"])]), "integers"),
            bad("one index without array", encode([changed(repair, 2, 1)]), "an array"),
            bad("no end", encode([repair[:3]]), "four fields"),
        ],
    )


def make_batches() -> None:
    """Batches asked for, frames of the answer, releases."""
    item: list[Any] = [COMMITMENT, 1, 0]
    write(
        "batch-request",
        [
            good("a whole fragment", encode([item]), count=1),
            good("the rest of a fragment", encode([changed(item, 2, 2**40)]), count=1),
        ],
        [
            *every_frame(encode([item])),
            bad("nothing asked for", encode([]), "1 to 10,000 items"),
            bad("a commitment as text", encode([changed(item, 0, "x" * 32)]), "bytes, not text"),
            bad("a commitment of 31 bytes", encode([changed(item, 0, bytes(31))]), "32 bytes"),
            bad("index 255", encode([changed(item, 1, 255)]), "at most 254"),
            bad("index true", encode([changed(item, 1, True)]), "a boolean is no integer"),
            bad("an offset over 1 TiB", encode([changed(item, 2, 2**40 + 1)]), "at most 2^40"),
            bad("no offset", encode([item[:2]]), "three fields"),
            bad("a fourth field", encode([[*item, 1]]), "three fields"),
        ],
    )

    def framed(values: list[Any] | bytes, *, size: int | None = None) -> bytes:
        head = values if isinstance(values, bytes) else encode(values)
        return (len(head) if size is None else size).to_bytes(4, "big") + head

    head: list[Any] = [COMMITMENT, 1, 0, 3]
    write(
        "batch-frame",
        [
            good(
                "three bytes follow",
                framed(head) + b"lo\x00",
                length=3,
                frame_code=None,
                body="6c6f00",
            ),
            good(
                "nothing is left", framed(changed(head, 3, 0)), length=0, frame_code=None, body=""
            ),
            good(
                "not held",
                framed(changed(head, 3, "unknown-object")),
                length=0,
                frame_code="unknown-object",
                body="",
            ),
        ],
        [
            bad("a byte is missing", framed(head) + b"lo", "three bytes follow"),
            bad("a byte too many", framed(head) + b"lo\x00\x00", "another frame begins"),
            bad("half a length", b"\x00\x00", "four bytes"),
            bad("half a head", framed(head)[:-1], "the head is cut off"),
            bad("a head of no bytes", framed(b""), "at least one"),
            bad("a head of 4 GiB", framed(head, size=2**32 - 1), "at most 128"),
            bad(
                "a length that includes itself",
                framed(head, size=len(encode(head)) + 4) + b"\x00" * 4,
                "of the head alone",
            ),
            bad(
                "a length in a longer form",
                framed(encode(head)[:-1] + b"\xcc\x03") + b"lo\x00",
                "shortest",
            ),
            bad("a code with a capital", framed(changed(head, 3, "Gone")), "lower case"),
            bad("an empty code", framed(changed(head, 3, "")), "a word at least"),
            bad("length nil", framed(changed(head, 3, None)), "a length or a code"),
            bad("a length over 1 TiB", framed(changed(head, 3, 2**40 + 1)), "at most 2^40"),
            bad("index 255", framed(changed(head, 1, 255)) + b"lo\x00", "at most 254"),
            bad("both length and code", framed([*head, "storage"]) + b"lo\x00", "four fields"),
        ],
    )
    release: list[Any] = ["permits.example/spring", COMMITMENT, 1, OTHER]
    write(
        "releases",
        [
            good("one", encode([release]), count=1),
            good("two", encode([release, changed(release, 2, 254)]), count=2),
        ],
        [
            *every_frame(encode([release])),
            bad("none", encode([]), "1 to 10,000 items"),
            bad(
                "an origin without call",
                encode([changed(release, 0, "permits.example")]),
                "a slash",
            ),
            bad(
                "a call in capitals",
                encode([changed(release, 0, "permits.example/Spring")]),
                "lower case",
            ),
            bad(
                "a call below a call",
                encode([changed(release, 0, "permits.example/a/b")]),
                "one slash",
            ),
            bad("a commitment of no bytes", encode([changed(release, 1, b"")]), "32 bytes"),
            bad("index 255", encode([changed(release, 2, 255)]), "at most 254"),
            bad("index false", encode([changed(release, 2, False)]), "a boolean is no integer"),
            bad("a hash in hex", encode([changed(release, 3, OTHER.hex())]), "bytes, not text"),
            bad("no hash", encode([release[:3]]), "four fields"),
            bad("a fifth field", encode([[*release, None]]), "four fields"),
        ],
    )


if __name__ == "__main__":
    make_tickets()
    make_staging()
    make_batches()
