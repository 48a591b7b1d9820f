"""Terms: what a destination signs about a call."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given

from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, FormatError, VerificationError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire import terms as terms_module
from bistro.wire.clauses import Outage, Spread
from bistro.wire.terms import SignedTerms, Terms, build
from tests.support import strategies
from tests.support.strategies import X25519_RECIPIENTS, call_keys, note_key, relay_named
from tests.support.vectors import Vector, each_vector

ORIGIN = Origin("permits.example", "spring")
KEY = note_key("permits.example")


def plain(**changes: Any) -> Terms:
    fields: dict[str, Any] = {
        "origin": ORIGIN,
        "title": "Spring permits",
        "opens": 1_000,
        "closes": 100_000,
        "grace_ms": 1_000,
        "stage_by": 200_000,
        "repair_by": 300_000,
        "recipients": tuple(X25519_RECIPIENTS),
        "envelope_limit": 2**30,
        "files_limit": 100,
        "spread": Spread(2, 3),
        "keys": call_keys(ORIGIN),
        "relays": (relay_named("r1.example"), relay_named("r2.example")),
    }
    return Terms(**(fields | changes))


@each_vector("terms", "valid")
def test_good_terms_verify_with_the_trusted_key(vector: Vector) -> None:
    """The hash is that of the text alone, whoever signed."""
    signed = SignedTerms.parse(vector.data)
    signed.verify(VerifierKey.parse(vector["key"]))
    assert signed.hash == signed.terms.hash == vector.hex("hash")
    assert str(signed.origin) == vector["origin"]
    assert signed.terms.text == signed.note.text


@each_vector("terms", "invalid")
def test_bad_terms_are_refused_with_the_code_of_the_vector(vector: Vector) -> None:
    """Form is checked when they are parsed, signatures when they are verified."""
    with pytest.raises(BistroError) as raised:
        SignedTerms.parse(vector.data).verify(VerifierKey.parse(vector["key"]))
    assert raised.value.code == vector.code


@given(strategies.TERMS)
def test_what_is_built_is_what_is_parsed(terms: Terms) -> None:
    """Signing and parsing change nothing."""
    key = note_key(terms.origin.server)
    signed = build(terms, key)
    assert SignedTerms.parse(signed.encode()) == signed
    assert signed.terms == terms
    signed.verify(key.verifier)


def test_terms_have_defaults_where_the_specification_has() -> None:
    """The plain call: anyone files, nothing is opened before staging ends."""
    terms = plain()
    assert (terms.version, terms.supersedes, terms.sealed_until) == (1, None, "stage_by")
    assert (terms.filers, terms.padding, terms.postmark) == ("anyone", "none", None)


def test_terms_are_not_built_with_a_key_that_they_do_not_name() -> None:
    """A typing error in the keys is found before anything is published."""
    with pytest.raises(VerificationError, match="expected a signature by"):
        build(plain(), note_key("permits.example", seed="other"))


def test_a_new_terms_key_is_signed_by_the_old_one_too() -> None:
    """Trust passes on only where its holder says so."""
    new = note_key("permits.example", seed="new")
    terms = plain(keys=call_keys(ORIGIN, terms_seed="new"))
    both = build(terms, KEY, new)
    both.verify(KEY.verifier)
    both.verify(new.verifier)
    alone = build(terms, new)
    assert alone.hash == both.hash
    alone.verify(new.verifier)
    with pytest.raises(VerificationError):
        alone.verify(KEY.verifier)


def test_terms_of_another_server_are_not_verified_with_this_one() -> None:
    """A pinned key speaks for its own server only."""
    signed = build(plain(), KEY)
    with pytest.raises(VerificationError, match=r"expected terms of other\.example, found those"):
        signed.verify(note_key("other.example").verifier)


def test_a_relay_is_found_by_its_name() -> None:
    """Receipts and claims name relays."""
    terms = plain()
    assert terms.relay("r2.example") is terms.relays[1]
    assert terms.relay("r9.example") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage_by": 100_999}, "closes + grace_ms <= stage_by <= repair_by, found 101000"),
        ({"opens": 100_000}, "expected opens before closes"),
        ({"opens": -1}, "expected opens before closes"),
        ({"sealed_until": "never"}, "sealed_until: expected one of stage_by, closes, none"),
        ({"padding": "x"}, "padding: expected one of none, padme, found 'x'"),
        ({"filers": "x"}, "filers: expected one of anyone, registered"),
        ({"time_zone": "UTC/" + "x" * 64}, "time_zone: expected a name such as Europe/Lisbon"),
        ({"time_zone": ""}, "time_zone: expected"),
        ({"recipients": ("age1x",)}, ""),
        ({"recipients": tuple(X25519_RECIPIENTS) * 7}, "expected 1 to 20 keys, found 21"),
        ({"relays": (relay_named("a.b"),) * 256}, "relays: expected 0 to 255, found 256"),
        ({"outages": (Outage(UnixMillis(1), UnixMillis(2)),) * 101}, "begin before the end"),
        ({"title": "x" * 201}, "title: expected 1 to 200 characters"),
        ({"tickets_per_filer": 1}, "null unless filers are registered, found 1"),
        ({"keys": call_keys(Origin("permits.example", "autumn"))}, "a key named permits.example"),
    ],
)
def test_terms_that_contradict_themselves_are_not_made(
    changes: dict[str, Any], message: str
) -> None:
    """An operator learns of it at once."""
    with pytest.raises(FormatError) as raised:
        plain(**changes)
    assert message in raised.value.message


def test_touching_outages_are_apart() -> None:
    """One may begin where another ends."""
    outages = (Outage(UnixMillis(1), UnixMillis(2)), Outage(UnixMillis(2), UnixMillis(3)))
    assert plain(outages=outages).outages == outages
    with pytest.raises(FormatError, match="outages: expected 0 to 100"):
        plain(outages=tuple(Outage(UnixMillis(t), UnixMillis(t + 1)) for t in range(101)))


def test_terms_too_long_for_their_readers_are_neither_parsed_nor_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Size is checked before content; the limit is lowered here to reach it."""
    note = build(plain(), KEY).encode()
    text = plain().text
    monkeypatch.setattr(terms_module, "MAX_TERMS_SIZE", len(text))
    assert Terms.parse(text) == plain()
    with pytest.raises(FormatError, match=f"at most {len(text)} bytes, found {len(note)}"):
        SignedTerms.parse(note)
    with pytest.raises(FormatError, match="terms: expected at most"):
        Terms.parse(text + b"x")
    with pytest.raises(FormatError, match="terms: expected at most"):
        build(plain(), KEY)


def test_the_same_terms_under_another_origin_have_another_hash() -> None:
    """A filing for one call cannot be moved to another."""
    other = Origin("permits.example", "autumn")
    assert plain().hash != plain(origin=other, keys=call_keys(other)).hash
    assert dataclasses.replace(plain(), title="x").hash != plain().hash
