"""Terms, headers and filings for tests of rules; every value can be replaced by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bistro.crypto.digest import sha256
from bistro.crypto.signing import SigningKey, sign_message
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.clauses import Keys, Relay, Spread
from bistro.wire.fragment import Cut
from bistro.wire.header import SIGNATURE_PREFIX, Header, SignedHeader
from bistro.wire.manifest import File, Manifest
from bistro.wire.terms import Terms
from tests.support.fragments import cut_up

ORIGIN = Origin("files.example.org", "spring")
OPENS = UnixMillis(1_000_000)
CLOSES = UnixMillis(2_000_000)
GRACE_MS = 1_000
STAGE_BY = UnixMillis(3_000_000)
REPAIR_BY = UnixMillis(4_000_000)


def signing_key(name: str, seed: str = "") -> SigningKey:
    private = Ed25519PrivateKey.from_private_bytes(sha256(f"{name}/{seed}".encode()))
    return SigningKey(name, private)


def filer(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()))


def relay(name: str) -> Relay:
    return Relay(
        name=name,
        operator=f"operator of {name}",
        url=f"https://{name}",
        vkey=signing_key(name).verifier,
    )


def make_keys(**changes: Any) -> Keys:
    keys = {
        "terms": signing_key(ORIGIN.server).verifier,
        "log": signing_key(str(ORIGIN)).verifier,
        "collect": signing_key(ORIGIN.collect).verifier,
        "status": signing_key(ORIGIN.status).verifier,
    }
    return Keys(**{**keys, **changes})


def make_terms(**changes: Any) -> Terms:
    fields: dict[str, Any] = {
        "origin": ORIGIN,
        "title": "Spring call",
        "opens": OPENS,
        "closes": CLOSES,
        "grace_ms": GRACE_MS,
        "stage_by": STAGE_BY,
        "repair_by": REPAIR_BY,
        "recipients": ("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",),
        "envelope_limit": 10_000_000,
        "files_limit": 10,
        "spread": Spread(2, 3),
        "keys": make_keys(),
        "relays": (relay("r1.example"), relay("r2.example"), relay("r3.example")),
    }
    return Terms(**{**fields, **changes})


def successor(old: Terms, **changes: Any) -> Terms:
    return replace(old, version=old.version + 1, supersedes=old.hash, **changes)


def make_header(who: str = "ada", **changes: Any) -> Header:
    fields: dict[str, Any] = {
        "terms_hash": sha256(b"terms"),
        "manifest_sha256": sha256(b"manifest"),
        "filer_key": filer(who).public_key().public_bytes_raw(),
        "slot": "main",
        "kind": "submit",
        "previous": None,
        "nonce": sha256(b"nonce"),
    }
    return Header(**{**fields, **changes})


def sign_header(header: Header, who: str = "ada") -> SignedHeader:
    return SignedHeader(header, sign_message(filer(who), SIGNATURE_PREFIX, header.encode()))


def make_manifest(contents: dict[str, bytes]) -> Manifest:
    files = (
        File(path=path, size=len(data), type="application/octet-stream", sha256=sha256(data))
        for path, data in sorted(contents.items(), key=lambda item: item[0].encode())
    )
    return Manifest(files=tuple(files), form="1040")


def cut_of(envelope: bytes, *, k: int = 2, n: int = 3) -> tuple[Cut, list[bytes]]:
    """The cut of an envelope and its fragments."""
    return cut_up(envelope, k=k, n=n)
