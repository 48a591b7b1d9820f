"""Writes the vectors of signed terms.

Run from the project's folder: ``python -m tests.vectors.make_terms``.
"""

from __future__ import annotations

from typing import Any

from bistro.crypto.digest import sha256
from bistro.crypto.signing import sign_note
from bistro.wire import document
from tests.support.strategies import HYBRID_RECIPIENTS, X25519_RECIPIENTS, note_key
from tests.vectors.making import NOT_VERIFIED, OTHER, Case, bad, good, write


def vkey(name: str) -> str:
    return note_key(name).verifier.format()


def relay(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "operator": f"Operator of {name}",
        "url": f"https://{name}:8441",
        "vkey": vkey(name),
        "region": "eu-west",
        "weight": 100,
    } | changes


def make_terms() -> None:
    """Signed terms, and the key that is trusted for them."""
    server, origin = "permits.example", "permits.example/spring"
    key, other = note_key(server), note_key(server, seed="next ")

    keys = {
        "terms": key.verifier.format(),
        "log": vkey(origin),
        "collect": vkey(origin + "/collect"),
        "status": vkey(origin + "/status"),
    }
    witness = {
        "name": "w.example",
        "operator": "W",
        "url": "https://w.example",
        "vkey": "w.example+b08e0b55+BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    }
    identifier = sha256(b"w.example\n\x04" + bytes(32))[:4].hex()
    witness["vkey"] = witness["vkey"].replace("b08e0b55", identifier)
    officers = [
        {"key": recipient, "name": f"Officer {number}"}
        for number, recipient in enumerate(X25519_RECIPIENTS, 1)
    ]
    authority = {
        "certificate": sha256(b"certificate").hex(),
        "url": "http://time.example/tsa",
    }
    day = 86_400_000
    closes = 1_790_000_000_000
    plain: dict[str, Any] = {
        "version": 1,
        "supersedes": None,
        "title": "Licenças de primavera",
        "opens": closes - 30 * day,
        "closes": closes,
        "grace_ms": 60_000,
        "stage_by": closes + 2 * day,
        "repair_by": closes + 5 * day,
        "sealed_until": "stage_by",
        "time_zone": "Europe/Lisbon",
        "recipients": X25519_RECIPIENTS[:1],
        "envelope_limit": 2**31,
        "files_limit": 1_000,
        "spread": {"k": 2, "n": 3},
        "padding": "none",
        "filers": "anyone",
        "tickets_per_filer": None,
        "keys": keys,
        "relays": [relay("r1.example"), relay("r2.example"), relay("r3.example", region="")],
        "postmark": None,
        "outages": [],
        "witnesses": [],
        "witness_quorum": 0,
        "timestamping": None,
        "officers": None,
    }
    full: dict[str, Any] = plain | {
        "version": 2,
        "supersedes": OTHER.hex(),
        "recipients": X25519_RECIPIENTS,
        "sealed_until": "none",
        "padding": "padme",
        "filers": "registered",
        "tickets_per_filer": 3,
        "postmark": {"quorum": 2},
        "outages": [{"from": closes - day, "to": closes}, {"from": closes, "to": closes + 1}],
        "witnesses": [witness],
        "witness_quorum": 1,
        "timestamping": [authority, authority | {"certificate": OTHER.hex()}],
        "officers": {"threshold": 2, "keys": officers},
    }
    hybrid = plain | {"recipients": HYBRID_RECIPIENTS}
    turned = full | {"keys": keys | {"terms": other.verifier.format()}}

    def text(terms: dict[str, Any], kind: str = "bistro/terms/v1", at: str = origin) -> bytes:
        return f"{kind}\n{at}\n".encode() + document.encode_json(terms) + b"\n"

    def signed(terms: dict[str, Any], **changes: str) -> str:
        return sign_note(text(terms, **changes), key).decode()

    trusted = {"key": key.verifier.format()}

    def known(name: str, terms: dict[str, Any], note: str) -> Case:
        return good(name, note, hash=sha256(text(terms)).hex(), origin=origin, **trusted)

    def but(name: str, why: str, base: dict[str, Any] = plain, **changes: Any) -> Case:
        return bad(name, signed(base | changes), why, **trusted)

    def untrusted(name: str, note: bytes | str, why: str) -> Case:
        note = note if isinstance(note, str) else note.decode()
        return bad(name, note, why, NOT_VERIFIED, **trusted)

    def without(field: str) -> dict[str, Any]:
        return {name: value for name, value in plain.items() if name != field}

    note = signed(plain)
    write(
        "terms",
        [
            known("version 1", plain, note),
            known("every field used", full, signed(full)),
            known(
                "a new terms key, signed by both",
                turned,
                sign_note(text(turned), key, other).decode(),
            ),
            known(
                "signed by somebody else as well",
                plain,
                sign_note(text(plain), key, note_key("mirror.example")).decode(),
            ),
            known("hybrid recipients", hybrid, signed(hybrid)),
            known("no relays yet", plain | {"relays": []}, signed(plain | {"relays": []})),
        ],
        [
            untrusted(
                "signed by another key", sign_note(text(plain), other), "not the trusted key"
            ),
            untrusted(
                "another title under the signature", note.replace("primavera", "outono"), "tampered"
            ),
            untrusted("a new terms key that did not sign", signed(turned), "both keys sign"),
            untrusted("a new terms key alone", sign_note(text(turned), other), "both keys sign"),
            bad(
                "another server's terms",
                note,
                "the trusted key is another server's",
                NOT_VERIFIED,
                key=vkey("other.example"),
            ),
            bad("no signature", text(plain).decode(), "a note has signatures", **trusted),
            bad("another kind", signed(plain, kind="bistro/status/v1"), "not terms", **trusted),
            bad(
                "a later format", signed(plain, kind="bistro/terms/v2"), "not version 1", **trusted
            ),
            bad("an origin without call", signed(plain, at=server), "no slash", **trusted),
            bad(
                "an origin that is not ASCII",
                signed(plain, at="permits.example/é"),
                "ASCII",
                **trusted,
            ),
            bad(
                "another call's keys",
                signed(plain, at=server + "/autumn"),
                "keys are named",
                **trusted,
            ),
            bad(
                "a line too many",
                sign_note(text(plain) + b"x\n", key).decode(),
                "three lines",
                **trusted,
            ),
            bad(
                "white space in the JSON",
                sign_note(text(plain).replace(b'":', b'": ', 1), key).decode(),
                "canonical",
                **trusted,
            ),
            bad("a missing field", signed(without("padding")), "every field is present", **trusted),
            but("an unknown field", "new fields mean a new version", extra=None),
            but("version 0", "from 1", version=0, supersedes=None),
            but("version 1 that supersedes", "nothing came before", supersedes=OTHER.hex()),
            but("version 2 that supersedes nothing", "names the one before", version=2),
            but("an empty title", "1 to 200 characters", title=""),
            but("a title of two lines", "one line", title="a\nb"),
            but("opens when it closes", "opens before closes", opens=closes),
            but("a grace of 999 ms", "at least 1,000", grace_ms=999),
            but("a grace of more than a day", "at most 86,400,000", grace_ms=day + 1),
            but("a grace that is true", "a boolean is no integer", grace_ms=True),
            but("staging ends within the grace", "a ticket on time can be staged", stage_by=closes),
            but("repair ends before staging", "stage_by <= repair_by", repair_by=closes + day),
            but(
                "a time beyond the year 9999",
                "at most 253402300799999",
                repair_by=253_402_300_800_000,
            ),
            but("sealed for ever", "three values", sealed_until="never"),
            but(
                "postmarks, sealed until closes",
                "postmarks come later",
                postmark={"quorum": 2},
                sealed_until="closes",
            ),
            but("a quorum of one", "at least two", postmark={"quorum": 1}),
            but("a time zone that is none", "a name", time_zone="Europe/"),
            but("no recipients", "at least one", recipients=[]),
            but("a recipient twice", "distinct", recipients=X25519_RECIPIENTS[:1] * 2),
            but(
                "recipients of two types",
                "all of one type",
                recipients=[HYBRID_RECIPIENTS[0], X25519_RECIPIENTS[0]],
            ),
            but(
                "a recipient with a typing error",
                "its checksum does not hold",
                recipients=[X25519_RECIPIENTS[0][:-1] + "q"],
            ),
            but("a recipient in capitals", "one form", recipients=[X25519_RECIPIENTS[0].upper()]),
            but("no room for an envelope", "at least 1", envelope_limit=0),
            but("envelopes over 1 TiB", "at most 2^40", envelope_limit=2**40 + 1),
            but("no files", "at least 1", files_limit=0),
            but("100,001 files", "at most 100,000", files_limit=100_001),
            but("k above n", "k is at most n", spread={"k": 4, "n": 3}),
            but("n = 256", "n is at most 255", spread={"k": 2, "n": 256}),
            but("an unknown padding", "two values", padding="pkcs7"),
            but("unknown filers", "two values", filers="friends"),
            but("a ticket limit where anyone files", "registered only", tickets_per_filer=1),
            but("a ticket limit of 0", "at least 1", full, tickets_per_filer=0),
            but("a log key with another name", "named <origin>", keys=keys | {"log": vkey(server)}),
            but(
                "a status key named as the log's",
                "named <origin>/status",
                keys=keys | {"status": keys["log"]},
            ),
            but(
                "a collect key named as the status'",
                "named <origin>/collect",
                keys=keys | {"collect": keys["status"]},
            ),
            but(
                "a terms key of another server",
                "named <server>",
                keys=keys | {"terms": vkey("other.example")},
            ),
            but("a key that is no vkey", "a vkey", keys=keys | {"log": "permits.example/spring"}),
            but("a key too many", "four keys", keys=keys | {"audit": vkey(origin)}),
            but("a relay twice", "distinct names", relays=[relay("r1.example")] * 2),
            but(
                "a relay with another's key",
                "named as the relay",
                relays=[relay("r1.example", vkey=vkey("r2.example"))],
            ),
            but("a relay with weight 0", "1 to 1,000", relays=[relay("r1.example", weight=0)]),
            but(
                "a relay whose URL ends in a slash",
                "no slash",
                relays=[relay("r1.example", url="https://r1.example/")],
            ),
            but(
                "a relay at an ftp URL",
                "http or https",
                relays=[relay("r1.example", url="ftp://r1.example")],
            ),
            but(
                "a relay with a user in its URL",
                "no user",
                relays=[relay("r1.example", url="https://a@r1.example")],
            ),
            but(
                "a relay at port 65536",
                "at most 65,535",
                relays=[relay("r1.example", url="https://r1.example:65536")],
            ),
            but(
                "a relay in capitals",
                "lower case",
                relays=[relay("R1.example", vkey=vkey("R1.example"))],
            ),
            but("a relay of nobody", "an operator", relays=[relay("r1.example", operator="")]),
            but(
                "an outage that ends before it begins", "from < to", outages=[{"from": 2, "to": 2}]
            ),
            but(
                "outages that overlap",
                "not overlapping",
                outages=[{"from": 1, "to": 9}, {"from": 8, "to": 10}],
            ),
            but("a quorum without witnesses", "at most their number", witness_quorum=1),
            but("a witness twice", "distinct names", witnesses=[witness] * 2),
            but(
                "a witness with a key for notes",
                "a cosignature key",
                witnesses=[witness | {"vkey": vkey("w.example")}],
            ),
            but(
                "a witness with another's key",
                "named as the witness",
                witnesses=[witness | {"name": "v.example"}],
            ),
            but(
                "a witness whose key id is wrong",
                "the id of its key",
                witnesses=[witness | {"vkey": witness["vkey"].replace(identifier, "00000000")}],
            ),
            but(
                "a witness whose key is a word",
                "a vkey",
                witnesses=[witness | {"vkey": "w.example"}],
            ),
            but(
                "too few officers",
                "threshold at most their number",
                officers={"threshold": 4, "keys": officers},
            ),
            but(
                "two officers of one name",
                "distinct names",
                officers={"threshold": 1, "keys": [one | {"name": "Ana"} for one in officers]},
            ),
            but(
                "officers of one key",
                "distinct keys",
                officers={
                    "threshold": 1,
                    "keys": [one | {"key": X25519_RECIPIENTS[0]} for one in officers],
                },
            ),
            but(
                "an officer without a name",
                "1 to 200 characters",
                officers={"threshold": 1, "keys": [officers[0] | {"name": ""}]},
            ),
            but(
                "officers as keys alone",
                "each has a name",
                officers={"threshold": 1, "keys": X25519_RECIPIENTS},
            ),
            but("no authority", "null where there is none", timestamping=[]),
            but(
                "nine authorities",
                "at most 8",
                timestamping=[
                    authority | {"certificate": sha256(bytes([number])).hex()}
                    for number in range(9)
                ],
            ),
            but("an authority twice", "distinct certificates", timestamping=[authority] * 2),
            but(
                "an authority by another hash",
                "SHA-256",
                timestamping=[authority | {"certificate": "00" * 20}],
            ),
            but(
                "an authority whose URL ends in a slash",
                "no slash",
                timestamping=[authority | {"url": "http://time.example/"}],
            ),
            but(
                "an authority with a name",
                "no such field",
                timestamping=[authority | {"name": "time"}],
            ),
            but("no officers", "at least one key", officers={"threshold": 1, "keys": []}),
        ],
        is_text=True,
    )


if __name__ == "__main__":
    make_terms()
