"""New versions of terms."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from bistro.crypto.digest import sha256
from bistro.errors import VerificationError
from bistro.instant import UnixMillis
from bistro.protocol.succession import verify_successor
from bistro.wire.clauses import Authority, Keys, Outage, Postmark, Spread, Witness
from tests.unit.protocol.builders import (
    CLOSES,
    GRACE_MS,
    OPENS,
    ORIGIN,
    REPAIR_BY,
    STAGE_BY,
    make_keys,
    make_terms,
    relay,
    signing_key,
    successor,
)

OUTAGE = Outage(UnixMillis(1_100_000), UnixMillis(1_200_000))
NEW_KEY = signing_key(ORIGIN.server, "new").verifier


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"title": "Spring call, second edition"},
        {
            "closes": UnixMillis(CLOSES + 1),
            "stage_by": UnixMillis(STAGE_BY + 1),
            "repair_by": UnixMillis(REPAIR_BY + 1),
            "grace_ms": GRACE_MS + 1,
        },
        {"relays": (relay("r4.example"),)},
        {"postmark": Postmark(2)},
        {"outages": (OUTAGE,)},
        {"keys": make_keys(terms=NEW_KEY)},
    ],
)
def test_what_helps_filers_may_change(changes: dict[str, Any]) -> None:
    """Later deadlines, more grace, other relays, declared outages, a new terms key."""
    old = make_terms()
    verify_successor(old, successor(old, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"closes": UnixMillis(CLOSES - 1)},
        {"stage_by": UnixMillis(STAGE_BY - 1)},
        {"repair_by": UnixMillis(REPAIR_BY - 1)},
        {"opens": UnixMillis(OPENS - 1)},
        {"sealed_until": "none"},
        {"time_zone": "Europe/Lisbon"},
        {"recipients": ("age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg",)},
        {"envelope_limit": 20_000_000},
        {"files_limit": 11},
        {"spread": Spread(1, 3)},
        {"padding": "padme"},
        {"keys": make_keys(log=signing_key(str(ORIGIN), "new").verifier)},
        {"keys": make_keys(collect=signing_key(ORIGIN.collect, "new").verifier)},
        {"keys": make_keys(status=signing_key(ORIGIN.status, "new").verifier)},
    ],
)
def test_what_shortens_or_is_fixed_is_refused(changes: dict[str, Any]) -> None:
    """Everybody refuses such a version, so that it has no effect."""
    old = make_terms()
    with pytest.raises(VerificationError, match="version 2"):
        verify_successor(old, successor(old, **changes))


def test_grace_never_shrinks() -> None:
    """Even where the deadline itself moves later."""
    old = make_terms(grace_ms=5_000)
    with pytest.raises(VerificationError, match="grace_ms"):
        verify_successor(old, successor(old, grace_ms=4_999, closes=UnixMillis(CLOSES + 9_999)))


@pytest.mark.parametrize(
    ("outages", "is_good"),
    [
        ((OUTAGE,), True),
        ((Outage(OUTAGE.since, UnixMillis(OUTAGE.until + 1)),), True),
        ((Outage(UnixMillis(OUTAGE.since - 1), OUTAGE.until),), True),
        ((), False),
        ((Outage(OUTAGE.since, UnixMillis(OUTAGE.until - 1)),), False),
        ((Outage(UnixMillis(OUTAGE.since + 1), OUTAGE.until),), False),
    ],
)
def test_a_declared_outage_stays(outages: tuple[Outage, ...], *, is_good: bool) -> None:
    """Whoever was promised admission keeps it."""
    old = make_terms(outages=(OUTAGE,))
    new = successor(old, outages=outages)
    if is_good:
        verify_successor(old, new)
        return
    with pytest.raises(VerificationError, match="outage"):
        verify_successor(old, new)


def test_versions_form_a_chain() -> None:
    """Each names the one before and counts one more."""
    old = make_terms()
    good = successor(old)
    for bad in (
        replace(good, version=3),
        replace(good, supersedes=bytes(32)),
        make_terms(),
        replace(good, origin=replace(ORIGIN, call="autumn"), keys=_keys_of("autumn")),
    ):
        with pytest.raises(VerificationError):
            verify_successor(old, bad)


def _keys_of(call: str) -> Keys:
    origin = replace(ORIGIN, call=call)
    return make_keys(
        log=signing_key(str(origin)).verifier,
        collect=signing_key(origin.collect).verifier,
        status=signing_key(origin.status).verifier,
    )


def test_witnesses_may_change_with_their_quorum() -> None:
    """They add to what a ticket proves, and nothing depends on a certain one."""
    key = signing_key("w.example").verifier
    cosigner = _witness_key(key.name, key.public)
    witness = Witness(name="w.example", operator="W", vkey=cosigner, url="https://w.example")
    old = make_terms()
    verify_successor(old, successor(old, witnesses=(witness,), witness_quorum=1))


def test_time_stamp_authorities_may_be_added_and_never_taken_away() -> None:
    """What could be stamped under one version can be under every later one."""
    first, second = (Authority(bytes([n]) * 32, "http://time.example") for n in range(2))
    old = make_terms()
    verify_successor(old, successor(old, timestamping=(second,)))
    old = make_terms(timestamping=(first,))
    verify_successor(old, successor(old, timestamping=(second, first)))
    for found in ((), (second,), (replace(first, url="http://other.example"),)):
        with pytest.raises(VerificationError, match="time-stamp authority 0000"):
            verify_successor(old, successor(old, timestamping=found))


def _witness_key(name: str, public: bytes) -> str:
    key_id = sha256(name.encode() + b"\n\x04" + public)[:4]
    return f"{name}+{key_id.hex()}+{base64.b64encode(bytes([4]) + public).decode()}"
