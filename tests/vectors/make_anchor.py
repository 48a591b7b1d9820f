"""Writes the vectors of stamped checkpoints.

Run from the project's folder: ``python -m tests.vectors.make_anchor``.
"""

from __future__ import annotations

from typing import Any

from bistro.crypto.digest import sha256
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.document import encode_json
from bistro.wire.lines import format_base64
from bistro.wire.proof import Proof
from tests.support.strategies import note_key
from tests.vectors.making import bad, good, write

ORIGIN = "permits.example/spring"


def _note() -> bytes:
    key = note_key(ORIGIN)
    checkpoint = Checkpoint(origin=ORIGIN, size=1, root=sha256(b"root"))
    return checkpoint.signed(key.verifier, key.sign(checkpoint.text()))


STAMP: dict[str, Any] = {
    "certificates": [format_base64(b"signer"), format_base64(b"issuer")],
    "token": format_base64(b"token"),
}
ANCHOR: dict[str, Any] = {**STAMP, "checkpoint": _note().decode(), "kind": "bistro/anchor/v1"}
PLACE = Proof(entry=b"entry", index=0, path=(), checkpoint_note=_note()).format().decode()
STAMPED: dict[str, Any] = {"timestamps": [STAMP], "witnessed": PLACE}


def _text(document: dict[str, Any]) -> str:
    return encode_json(document).decode()


def _without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


def make_anchors() -> None:
    """One checkpoint and one stamp."""
    write(
        "anchor",
        [
            good("two certificates", _text(ANCHOR)),
            good("one certificate", _text({**ANCHOR, "certificates": [format_base64(b"own")]})),
        ],
        [
            bad("nothing", "", "no document at all"),
            bad("cut off", _text(ANCHOR)[:-1], "the last character is missing"),
            bad("a line end", _text(ANCHOR) + "\n", "something follows the document"),
            bad("a space", _text(ANCHOR).replace(":", ": ", 1), "a second form of one value"),
            bad("another kind", _text({**ANCHOR, "kind": "bistro/anchor/v2"}), "only v1 exists"),
            bad("no token", _text(_without(ANCHOR, "token")), "a stamp has one"),
            bad("an empty token", _text({**ANCHOR, "token": ""}), "at least one byte"),
            bad("no certificates", _text({**ANCHOR, "certificates": []}), "the signer's at least"),
            bad(
                "nine certificates",
                _text({**ANCHOR, "certificates": [format_base64(b"x")] * 9}),
                "at most eight",
            ),
            bad(
                "a certificate in another form of base64",
                _text({**ANCHOR, "certificates": ["eB=="]}),
                "bits that are not zero",
            ),
            bad(
                "a note that is no checkpoint",
                _text({**ANCHOR, "checkpoint": ANCHOR["checkpoint"].replace("\n1\n", "\n01\n", 1)}),
                "a size with a leading zero",
            ),
            bad("a field too many", _text({**ANCHOR, "time": 1}), "nobody knows it"),
        ],
        is_text=True,
    )


def make_stamped() -> None:
    """What evidence takes over."""
    write(
        "stamped",
        [
            good("one stamp", _text(STAMPED)),
            good("two stamps", _text({**STAMPED, "timestamps": [STAMP, STAMP]})),
        ],
        [
            bad("nothing", "", "no document at all"),
            bad("cut off", _text(STAMPED)[:-1], "the last character is missing"),
            bad("a line end", _text(STAMPED) + "\n", "something follows the document"),
            bad("an array", encode_json([STAMPED]).decode(), "expected an object"),
            bad("no stamps", _text({**STAMPED, "timestamps": []}), "at least one"),
            bad("17 stamps", _text({**STAMPED, "timestamps": [STAMP] * 17}), "at most 16"),
            bad(
                "a stamp without certificates",
                _text({**STAMPED, "timestamps": [_without(STAMP, "certificates")]}),
                "the signer's at least",
            ),
            bad(
                "a stamp with a field too many",
                _text({**STAMPED, "timestamps": [{**STAMP, "time": 1}]}),
                "nobody knows it",
            ),
            bad("no place", _text(_without(STAMPED, "witnessed")), "a stamp is over something"),
            bad("an empty place", _text({**STAMPED, "witnessed": ""}), "a proof has a text"),
        ],
        is_text=True,
    )


if __name__ == "__main__":
    make_anchors()
    make_stamped()
