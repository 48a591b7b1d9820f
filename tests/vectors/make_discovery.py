"""Writes ``discovery-server.json`` and ``discovery-relay.json``.

Documents are put together from plain values; run it as ``python -m tests.vectors.make_discovery``.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.strategies import note_key
from tests.vectors.making import Case, bad, good, write

SERVER = "permits.example"
RELAY = "relay-1.example.net"

SERVER_DOCUMENT: dict[str, Any] = {
    "version": 1,
    "name": SERVER,
    "terms_key": note_key(SERVER).verifier.format(),
    "base_url": "https://permits.example/bistro",
    "protocols": [1],
    "calls": [
        {
            "id": "spring",
            "title": "Permits, spring",
            "state": "open",
            "opens": 1_790_000_000_000,
            "closes": 1_800_000_000_000,
            "terms": "ab" * 32,
        }
    ],
    "tickets_url": None,
    "rotations": [],
}
RELAY_DOCUMENT: dict[str, Any] = {
    "version": 1,
    "name": RELAY,
    "operator": "City of Example",
    "region": "",
    "vkey": note_key(RELAY).verifier.format(),
    "base_url": "https://relay-1.example.net",
    "protocols": [1],
    "destinations": [{"server": SERVER, "calls": ["spring", "autumn"]}],
    "free_bytes": 10_000_000_000,
    "load": 120,
    "accepting": True,
    "abuse_contact": "abuse@example.net",
}


def text_of(document: dict[str, Any]) -> str:
    """The canonical text of ``document``."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def but(document: dict[str, Any], case: str, why: str, **fields: Any) -> Case:
    """The document with other values of some fields, which make it malformed."""
    return bad(case, text_of(document | fields), why)


def without(document: dict[str, Any], field: str) -> Case:
    """The document without one of its fields."""
    rest = {name: value for name, value in document.items() if name != field}
    return bad(f"without {field}", text_of(rest), f"{field} is missing")


def any_document(document: dict[str, Any], key: str, name: str) -> list[Case]:
    """What is wrong with either document."""
    other = note_key("other.example").verifier.format()
    return [
        bad("nothing", "", "no document at all"),
        bad("white space", json.dumps(document, sort_keys=True), "canonical JSON has none"),
        bad("an array", "[]", "expected an object"),
        *(without(document, field) for field in document),
        but(document, "a field too many", "an unknown field is an error", more=1),
        but(document, "version 2", "this is version 1", version=2),
        but(document, "version true", "a boolean is no number", version=True),
        but(document, "a name without a dot", "names are host names", name="permits"),
        but(document, "a key of another name", f"the key of {name}", **{key: other}),
        but(document, "a key that is none", "expected a vkey", **{key: "permits.example"}),
        but(document, "no protocols", "at least one", protocols=[]),
        but(document, "a protocol twice", "ascending", protocols=[1, 1]),
        but(document, "protocols not ascending", "ascending", protocols=[2, 1]),
        but(document, "a URL with a slash at the end", "none", base_url="https://x.example/"),
        but(document, "a URL of another kind", "http or https", base_url="ftp://x.example"),
        but(document, "a URL with a query", "no query", base_url="https://x.example?a"),
        but(document, "a URL with white space", "none", base_url="https://x.example/a b"),
    ]


def make_server() -> None:
    """Write ``discovery-server.json``."""
    call = SERVER_DOCUMENT["calls"][0]
    twice = SERVER_DOCUMENT | {"calls": [call, call]}
    plain = {"tickets_url": "http://permits.example:8440", "rotations": ["note\n"]}
    write(
        "discovery-server",
        [
            good("one call", text_of(SERVER_DOCUMENT), server=SERVER, calls=["spring"]),
            good("no calls", text_of(SERVER_DOCUMENT | {"calls": []}), server=SERVER, calls=[]),
            good("all fields", text_of(SERVER_DOCUMENT | plain), server=SERVER, calls=["spring"]),
        ],
        [
            *any_document(SERVER_DOCUMENT, "terms_key", SERVER),
            bad("a call twice", text_of(twice), "ids are distinct"),
            but(SERVER_DOCUMENT, "a tickets URL that is none", "a URL", tickets_url="x"),
            but(SERVER_DOCUMENT, "an empty rotation", "a note", rotations=[""]),
            *(
                but(SERVER_DOCUMENT, f"a call with {name}", why, calls=[call | fields])
                for name, why, fields in (
                    ("an id in upper case", "lower case", {"id": "Spring"}),
                    ("no title", "at least one character", {"title": ""}),
                    ("another state", "announced, open, closed or opened", {"state": "late"}),
                    ("a time below zero", "from 1970 on", {"opens": -1}),
                    ("a time that is a boolean", "a number", {"closes": True}),
                    ("a short hash", "32 bytes", {"terms": "ab"}),
                    ("a hash in upper case", "lower case", {"terms": "AB" * 32}),
                    ("a field too many", "an unknown field", {"more": 1}),
                )
            ),
        ],
        is_text=True,
    )


def make_relay() -> None:
    """Write ``discovery-relay.json``."""
    served = RELAY_DOCUMENT["destinations"][0]
    twice = RELAY_DOCUMENT | {"destinations": [served, served]}
    full = RELAY_DOCUMENT | {"accepting": False, "load": 1_000, "free_bytes": 0}
    write(
        "discovery-relay",
        [
            good("a relay at work", text_of(RELAY_DOCUMENT), relay=RELAY, servers=[SERVER]),
            good("a full relay", text_of(full), relay=RELAY, servers=[SERVER]),
            good(
                "a new relay",
                text_of(RELAY_DOCUMENT | {"destinations": [], "region": "eu"}),
                relay=RELAY,
                servers=[],
            ),
        ],
        [
            *any_document(RELAY_DOCUMENT, "vkey", RELAY),
            bad("a destination twice", text_of(twice), "names are distinct"),
            but(RELAY_DOCUMENT, "no operator", "at least one character", operator=""),
            but(RELAY_DOCUMENT, "a load above 1,000", "per mille", load=1_001),
            but(RELAY_DOCUMENT, "a load that is a fraction", "a whole number", load=0.5),
            but(RELAY_DOCUMENT, "less than no room", "from 0 on", free_bytes=-1),
            but(RELAY_DOCUMENT, "accepting 1", "a boolean", accepting=1),
            *(
                but(RELAY_DOCUMENT, f"a destination with {name}", why, destinations=[served | bad_])
                for name, why, bad_ in (
                    ("a name without a dot", "host names have one", {"server": "permits"}),
                    ("a call twice", "ids are distinct", {"calls": ["spring", "spring"]}),
                    ("a call that is none", "a call id", {"calls": ["-"]}),
                    ("a field too many", "an unknown field", {"more": 1}),
                )
            ),
        ],
        is_text=True,
    )


if __name__ == "__main__":
    make_server()
    make_relay()
