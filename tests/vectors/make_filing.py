"""Writes the vectors of headers and manifests.

Run from the project's folder: ``python -m tests.vectors.make_filing``.
"""

from __future__ import annotations

from typing import Any

from bistro.crypto.digest import leaf_hash, sha256
from bistro.wire import document
from bistro.wire.codec import encode
from tests.vectors.making import (
    HEADER,
    KEY,
    NOT_VERIFIED,
    OTHER,
    bad,
    changed,
    every_frame,
    good,
    write,
)


def make_header() -> None:
    """``submission.bin``, and with it the header that it holds."""

    def signed(header: list[Any]) -> bytes:
        encoded = encode(header)
        return encode([encoded, KEY.sign(b"bistro/header/v1\n" + encoded)])

    def known(header: list[Any]) -> dict[str, Any]:
        return {
            "header": encode(header).hex(),
            "leaf": leaf_hash(encode(header)).hex(),
            "token": sha256(b"bistro/status/v1\n" + header[7]).hex(),
            "slot": header[4],
            "kind": header[5],
        }

    amended = changed(changed(HEADER, 5, "amend"), 6, OTHER)
    withdrawn = changed(changed(changed(HEADER, 5, "withdraw"), 6, OTHER), 4, "Lot_2.b")
    encoded, signature = encode(HEADER), KEY.sign(b"bistro/header/v1\n" + encode(HEADER))
    write(
        "header",
        [
            good("a submission", signed(HEADER), **known(HEADER)),
            good("an amendment", signed(amended), **known(amended)),
            good("a withdrawal in another slot", signed(withdrawn), **known(withdrawn)),
        ],
        [
            *every_frame(signed(HEADER)),
            bad("version 2", signed(changed(HEADER, 0, 2)), "only version 1 exists"),
            bad("version true", signed(changed(HEADER, 0, True)), "a boolean is no integer"),
            bad("a terms hash of 31 bytes", signed(changed(HEADER, 1, bytes(31))), "32 bytes"),
            bad("a manifest hash as text", signed(changed(HEADER, 2, "0" * 32)), "bytes, not text"),
            bad("no filer key", signed(changed(HEADER, 3, None)), "a key is required"),
            bad("an empty slot", signed(changed(HEADER, 4, "")), "1 to 64 characters"),
            bad("a slot of 65 characters", signed(changed(HEADER, 4, "x" * 65)), "at most 64"),
            bad("a slot with a space", signed(changed(HEADER, 4, "lot 2")), "identifiers only"),
            bad("a slot with a line end", signed(changed(HEADER, 4, "a\n")), "identifiers only"),
            bad("a slot in other letters", signed(changed(HEADER, 4, "ção")), "a-z only"),
            bad("a slot that begins with a dot", signed(changed(HEADER, 4, ".a")), "letter first"),
            bad("a kind that does not exist", signed(changed(HEADER, 5, "replace")), "three kinds"),
            bad("an amendment of nothing", signed(changed(HEADER, 5, "amend")), "needs previous"),
            bad("a submission after another", signed(changed(HEADER, 6, OTHER)), "has no previous"),
            bad("a nonce of 16 bytes", signed(changed(HEADER, 7, bytes(16))), "32 bytes"),
            bad("a field too many", signed([*HEADER, None]), "eight fields"),
            bad("a field too few", signed(HEADER[:-1]), "eight fields"),
            bad("the header as an array", encode([HEADER, signature]), "it stands encoded"),
            bad("a signature of 63 bytes", encode([encoded, signature[:-1]]), "64 bytes"),
            bad("no signature", encode([encoded]), "two fields"),
            bad(
                "a signature over something else",
                encode([encoded, KEY.sign(encoded)]),
                "the domain prefix is missing",
                NOT_VERIFIED,
            ),
            bad(
                "a signature by another key",
                encode([encode(changed(HEADER, 3, OTHER)), signature]),
                "the header names another filer",
                NOT_VERIFIED,
            ),
        ],
    )


def make_manifest() -> None:
    """Manifests, canonical JSON."""
    dump = document.encode_json
    first: dict[str, Any] = {
        "path": "forms/a.pdf",
        "size": 163_287,
        "type": "application/pdf",
        "sha256": sha256(b"a").hex(),
    }
    second = first | {"path": "forms/ção.csv", "type": "text/csv", "size": 0}
    plain: dict[str, Any] = {
        "version": 1,
        "form": "1040",
        "files": [first, second],
        "references": ["2025-117"],
        "notes": "uma nota\nem duas linhas",
    }
    empty: dict[str, Any] = {
        "version": 1,
        "form": None,
        "files": [],
        "references": [],
        "notes": None,
    }
    text = dump(plain).decode()

    def with_file(**changes: Any) -> str:
        return dump(plain | {"files": [first | changes]}).decode()

    def with_paths(*paths: str) -> str:
        return dump(plain | {"files": [first | {"path": path} for path in paths]}).decode()

    bad_paths = {
        "an absolute path": "/etc/passwd",
        "a parent path": "../a",
        "a parent within": "a/../b",
        "a dot": "./a",
        "an empty part": "a//b",
        "a folder": "a/",
        "a reserved name": "submission.bin",
        "another reserved name": "manifest.json",
        "a control character": "a\x01b",
        "a backslash": "a\\b",
        "a drive": "c:a",
        "another Unicode form": "c\u0327a\u0303o",
        "a direction override": "a\u202efdp.exe",
        "a space of no width": "a\u200bb",
        "a soft hyphen": "a\u00adb",
        "a tag character": "a\U000e0041",
        "a dot at the end": "a./b",
        "a space at the end": "a ",
        "a device": "forms/aux",
        "a device with an ending": "Com1.tar.gz",
        "a device with a digit above the line": "lpt\u00b2",
        "a reserved name in capitals": "MANIFEST.json",
        "a part of 256 bytes": "x" * 256,
        "a path of 1,025 bytes": "/".join(["x" * 127] * 8) + "/x",
    }
    write(
        "manifest",
        [
            good(
                "two files",
                text,
                digest=sha256(text.encode()).hex(),
                files=["forms/a.pdf", "forms/ção.csv"],
            ),
            good("a withdrawal", dump(empty).decode(), digest=sha256(dump(empty)).hex(), files=[]),
            good(
                "byte order, not that of letters",
                with_paths("B", "a", "a.b", "a0", "é", "\uffee", "😀"),
                digest=sha256(
                    with_paths("B", "a", "a.b", "a0", "é", "\uffee", "😀").encode()
                ).hex(),
                files=["B", "a", "a.b", "a0", "é", "\uffee", "😀"],
            ),
        ],
        [
            bad("nothing", "", "no bytes at all"),
            bad("no JSON", "{", "cut off"),
            bad("an array", "[]", "expected an object"),
            bad("white space", text.replace(":1}", ": 1}"), "no white space"),
            bad("a line end", text + "\n", "nothing follows the object"),
            bad(
                "keys out of order",
                '{"version":1,"form":null,"files":[],"references":[],"notes":null}',
                "keys are sorted",
            ),
            bad("a key twice", text.replace('"version":1', '"version":1,"version":1'), "each once"),
            bad("an unknown field", dump(plain | {"author": "a"}).decode(), "no such field"),
            bad(
                "a missing field",
                dump({k: v for k, v in plain.items() if k != "notes"}).decode(),
                "null is written",
            ),
            bad("version 2", dump(plain | {"version": 2}).decode(), "only version 1 exists"),
            bad(
                "version true", dump(plain | {"version": True}).decode(), "a boolean is no integer"
            ),
            bad("version 1.0", text.replace('"version":1', '"version":1.0'), "no floats"),
            bad("an escape that need not be", text.replace("1040", "\\u0031040"), "one form"),
            bad("an empty form", dump(plain | {"form": ""}).decode(), "null is written"),
            bad("an empty reference", dump(plain | {"references": [""]}).decode(), "not empty"),
            bad("a reference that is a number", dump(plain | {"references": [1]}).decode(), "text"),
            bad(
                "101 references", dump(plain | {"references": ["a"] * 101}).decode(), "at most 100"
            ),
            bad(
                "notes of 10,001 characters",
                dump(plain | {"notes": "x" * 10_001}).decode(),
                "at most 10,000",
            ),
            bad("a path twice", with_paths("a", "a"), "unique"),
            bad("paths out of order", with_paths("b", "a"), "sorted by bytes"),
            bad(
                "a folder in the place of the manifest",
                with_paths("manifest.json/a"),
                "reserved at the top",
            ),
            bad("a file that is a folder", with_paths("a", "a.b", "a/c"), "one or the other"),
            bad("two names but for case", with_paths("A.pdf", "a.pdf"), "one on some systems"),
            bad("two folders but for case", with_paths("A/b", "a/c"), "one on some systems"),
            bad("two names when folded", with_paths("strasse", "straße"), "full case folding"),
            bad("a negative size", with_file(size=-1), "at least 0"),
            bad("a size over 2^53", text.replace("163287", "9007199254740993"), "at most 2^53 - 1"),
            bad("a media type in capitals", with_file(type="Application/pdf"), "lower case"),
            bad(
                "a media type with parameters", with_file(type="text/csv; charset=utf-8"), "without"
            ),
            bad("no media type", with_file(type="pdf"), "type and subtype"),
            bad("a hash in capitals", with_file(sha256=first["sha256"].upper()), "lower case"),
            bad("a hash of 31 bytes", with_file(sha256="00" * 31), "32 bytes"),
            bad("an unknown field of a file", with_file(mode="0644"), "no such field"),
            *(bad(name, with_paths(path), "no path of a file") for name, path in bad_paths.items()),
        ],
        is_text=True,
    )


if __name__ == "__main__":
    make_header()
    make_manifest()
