"""Signed requests of the collector."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bistro.api.message_signatures import (
    Request,
    VerifiedRequest,
    content_digest,
    sign_request,
    signature_base,
    verify_kept,
    verify_request,
)
from bistro.crypto.signing import SigningKey, VerifierKey
from bistro.errors import BistroError, FormatError, NotRegisteredError, VerificationError
from bistro.instant import UnixMillis
from tests.support.vectors import Vector, each_vector

NOW = UnixMillis(1_790_000_000_500)
NONCE = "000102030405060708090a0b0c0d0e0f"
KEY = SigningKey(
    "files.example.org/spring/collect", Ed25519PrivateKey.from_private_bytes(bytes(32))
)
OTHER = SigningKey("x.example/y/collect", Ed25519PrivateKey.from_private_bytes(b"x" * 32))
REQUEST = Request("POST", "relay.example:8441", "/batches", b"\x90")
QUERY = Request("GET", "relay.example", "/staged?after=0&limit=10")


def signed(request: Request = REQUEST, **changes: Any) -> dict[str, str]:
    return sign_request(request, KEY, **{"now": NOW, "nonce": NONCE, **changes})


def known(*keys: SigningKey) -> Callable[[str], list[VerifierKey]]:
    return lambda key_id: [k.verifier for k in keys if k.verifier.key_id.hex() == key_id]


def check(
    request: Request,
    headers: dict[str, str],
    *,
    now: UnixMillis = NOW,
    keys: Callable[[str], list[VerifierKey]] | None = None,
) -> VerifiedRequest:
    return verify_request(request, headers, keys_of=keys or known(KEY), now=now)


@pytest.mark.parametrize("request_", [REQUEST, QUERY])
def test_a_signed_request_verifies(request_: Request) -> None:
    """And what has to be kept and remembered comes out."""
    found = check(request_, signed(request_))
    assert found.key == KEY.verifier
    assert (found.nonce, found.expires_at) == (NONCE, 1_790_000_060_000)
    verify_kept(found.base, found.signature, request_, key=found.key)


def test_the_rfcs_example_of_ed25519_is_reproduced() -> None:
    """RFC 9421, B.2.6, with the keys of B.1.4: base and signature to the last bit."""
    seed = base64.b64decode("MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF")[
        -32:
    ]
    spki = base64.b64decode("MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
    components = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("@method", "POST"),
        ("@path", "/foo"),
        ("@authority", "example.com"),
        ("content-type", "application/json"),
        ("content-length", "18"),
    ]
    parameters = (
        '("date" "@method" "@path" "@authority" "content-type" "content-length")'
        ';created=1618884473;keyid="test-key-ed25519"'
    )
    base = signature_base(components, parameters)
    assert base == (
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n'
        '"@method": POST\n'
        '"@path": /foo\n'
        '"@authority": example.com\n'
        '"content-type": application/json\n'
        '"content-length": 18\n'
        '"@signature-params": ("date" "@method" "@path" "@authority" "content-type" '
        '"content-length");created=1618884473;keyid="test-key-ed25519"'
    )
    key = SigningKey("test.example", Ed25519PrivateKey.from_private_bytes(seed))
    assert key.verifier.public == spki[-32:]
    expected = (
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    )
    assert base64.b64encode(key.sign(base.encode())).decode() == expected


def test_the_rfcs_example_of_a_digest_is_reproduced() -> None:
    """RFC 9530, section 2, and that of an empty body."""
    assert content_digest(b'{"hello": "world"}') == (
        "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    )
    assert content_digest(b"") == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"


@pytest.mark.parametrize(
    "received",
    [
        Request("PUT", "relay.example:8441", "/batches", b"\x90"),
        Request("POST", "sister.example:8441", "/batches", b"\x90"),
        Request("POST", "relay.example:8441", "/releases", b"\x90"),
        Request("POST", "relay.example:8441", "/batches?x=1", b"\x90"),
        Request("POST", "relay.example:8441", "/batches", b"\x91\x01"),
    ],
)
def test_a_signature_is_good_for_one_request_at_one_relay(received: Request) -> None:
    """Method, authority, path, query and body are all covered."""
    with pytest.raises(VerificationError):
        check(received, signed())


def test_a_body_with_its_own_digest_still_needs_the_signature() -> None:
    """The digest is covered, so that it cannot be replaced together with the body."""
    other = Request("POST", "relay.example:8441", "/batches", b"\x91\x01")
    headers = {**signed(), "Content-Digest": content_digest(other.body)}
    with pytest.raises(VerificationError, match="signature by key"):
        check(other, headers)


@pytest.mark.parametrize(
    ("offset_ms", "is_good"),
    [(0, True), (59_500, True), (59_501, False), (-30_500, True), (-30_501, False)],
)
def test_a_signature_lives_for_its_minute(offset_ms: int, *, is_good: bool) -> None:
    """To the millisecond at which its nonce may be forgotten, from 30 s before it was made."""
    now = UnixMillis(NOW + offset_ms)
    if is_good:
        check(REQUEST, signed(), now=now)
        return
    with pytest.raises(VerificationError, match="the clock here says") as caught:
        check(REQUEST, signed(), now=now)
    assert "clocks" in caught.value.hint


@pytest.mark.parametrize("created", [1_000, 999_999_999_900])
def test_a_time_that_no_calendar_has_is_refused_like_any_other(created: int) -> None:
    """The message names both clocks as people read them, whatever a request claims."""
    headers = signed()
    spoilt = headers["Signature-Input"].replace("created=1790000000", f"created={created}")
    spoilt = spoilt.replace("expires=1790000060", f"expires={created + 60}")
    with pytest.raises(VerificationError, match=r"the clock here says 2026-09-21T"):
        check(REQUEST, headers | {"Signature-Input": spoilt})


@pytest.mark.parametrize("expires", [1_790_000_000, 1_789_999_999, 1_790_000_061])
def test_a_life_of_nothing_or_of_more_than_a_minute_is_refused(expires: int) -> None:
    """A relay remembers nonces for a minute, not longer."""
    headers = signed()
    spoilt = headers["Signature-Input"].replace("expires=1790000060", f"expires={expires}")
    with pytest.raises(VerificationError, match="of life"):
        check(REQUEST, {**headers, "Signature-Input": spoilt})


def test_an_unknown_key_is_not_registered() -> None:
    """The relay's operator has to allow the destination."""
    with pytest.raises(NotRegisteredError):
        check(REQUEST, signed(), keys=known(OTHER))


def test_keys_with_the_same_id_are_told_apart_by_the_signature() -> None:
    """A key id has 32 bits only: it finds a key, it proves nothing."""
    keys = [OTHER.verifier, KEY.verifier]
    assert check(REQUEST, signed(), keys=lambda _: keys).key == KEY.verifier
    with pytest.raises(VerificationError, match="does not hold"):
        check(REQUEST, signed(), keys=lambda _: keys[:1])


@pytest.mark.parametrize("name", ["Signature", "Signature-Input"])
def test_a_missing_header_field_is_malformed(name: str) -> None:
    """An unsigned request is told so."""
    headers = signed()
    del headers[name]
    with pytest.raises(FormatError, match=f"{name}: expected a signed request"):
        check(REQUEST, headers)


def test_a_missing_digest_is_not_verified() -> None:
    """The body is always covered."""
    headers = signed()
    del headers["Content-Digest"]
    with pytest.raises(VerificationError, match="Content-Digest"):
        check(REQUEST, headers)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bistro=", "sig1="),
        ('"@method" "@authority"', '"@authority" "@method"'),
        (' "content-digest"', ""),
        ("created=1790000000", "created=01790000000"),
        (f'nonce="{NONCE}"', 'nonce="short"'),
        (f'nonce="{NONCE}"', f'nonce="{"x" * 65}"'),
        (f'nonce="{NONCE}"', f'nonce="{NONCE[:-1]}+"'),
        (';alg="ed25519"', ""),
        ("ed25519", "hmac-sha256"),
        (";created", "; created"),
    ],
)
def test_any_other_form_is_malformed(old: str, new: str) -> None:
    """One profile: nothing to be confused about."""
    headers = signed()
    spoilt = headers["Signature-Input"].replace(old, new)
    assert spoilt != headers["Signature-Input"]
    with pytest.raises(FormatError, match="one profile"):
        check(REQUEST, {**headers, "Signature-Input": spoilt})


def test_two_spellings_of_one_signature_are_not_taken() -> None:
    """The unused bits of base64 are zero."""
    headers = signed()
    value = headers["Signature"].removesuffix("==:")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(value[-1]) + 1]
    with pytest.raises(FormatError, match="canonical"):
        check(REQUEST, {**headers, "Signature": f"{value[:-1]}{last}==:"})
    with pytest.raises(FormatError, match="one profile"):
        check(REQUEST, {**headers, "Signature": value + "="})


@pytest.mark.parametrize("target", ["/a b", "/a\n", "/ä", ""])
def test_what_is_no_request_target_has_no_signature_base(target: str) -> None:
    """A line break would forge a component."""
    with pytest.raises(FormatError, match="printable ASCII"):
        signed(Request("GET", "relay.example", target))


@pytest.mark.parametrize(
    "changes", [{"nonce": "x"}, {"nonce": "x" * 65}, {"lifetime_s": 0}, {"lifetime_s": 61}]
)
def test_a_signer_is_held_to_the_profile(changes: dict[str, Any]) -> None:
    """Better a bug here than a refusal there."""
    with pytest.raises(ValueError, match="nonce"):
        signed(**changes)


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, body=b"other"),
        replace(REQUEST, authority="sister.example:8441"),
        replace(REQUEST, target="/releases"),
        replace(REQUEST, method="PUT"),
    ],
)
def test_a_kept_request_is_proof_of_itself_alone(other: Request) -> None:
    """A relay cannot show what another relay was asked, or was asked of it for another purpose."""
    found = check(REQUEST, signed())
    verify_kept(found.base, found.signature, REQUEST, key=found.key)
    with pytest.raises(VerificationError, match="another request"):
        verify_kept(found.base, found.signature, other, key=found.key)


def test_a_kept_request_needs_its_signer_and_its_whole_base() -> None:
    """Neither another key nor a base that goes on differently will do."""
    found = check(REQUEST, signed())
    with pytest.raises(VerificationError):
        verify_kept(found.base, found.signature, REQUEST, key=OTHER.verifier)
    for base in (found.base + "x", found.base + "\nx", "x\n" + found.base, ""):
        with pytest.raises(VerificationError, match="another request"):
            verify_kept(base, KEY.sign(base.encode()), REQUEST, key=found.key)


@given(st.binary(max_size=64), st.sampled_from(["GET", "POST"]), st.integers(1, 60))
def test_any_request_verifies_as_it_was_signed(body: bytes, method: str, lifetime_s: int) -> None:
    """Signing and verifying agree on the base."""
    request = Request(method, "relay.example", "/x?y=%20&z", body)
    found = check(request, signed(request, lifetime_s=lifetime_s))
    assert found.expires_at == (NOW // 1_000 + lifetime_s) * 1_000


@given(st.sampled_from(["Signature", "Signature-Input", "Content-Digest"]), st.text(max_size=80))
def test_any_header_verifies_or_raises_ours(name: str, text: str) -> None:
    """No text makes anything else happen."""
    with pytest.raises(BistroError):
        check(REQUEST, {**signed(), name: text})


def _from_vector(vector: Vector) -> VerifiedRequest:
    request = Request(vector["method"], vector["authority"], vector["target"], vector.hex("body"))
    headers = {
        "Content-Digest": vector["content_digest"],
        "Signature-Input": vector["signature_input"],
        "Signature": vector["signature"],
    }
    key = VerifierKey.parse(vector["vkey"])

    def keys_of(key_id: str) -> list[VerifierKey]:
        return [key] if key.key_id.hex() == key_id else []

    return verify_request(request, headers, keys_of=keys_of, now=UnixMillis(vector["now"]))


@each_vector("message-signature", "valid")
def test_signature_vectors(vector: Vector) -> None:
    """Request and header fields give exactly this signature base."""
    assert _from_vector(vector).base.encode() == vector.data


@each_vector("message-signature", "invalid")
def test_bad_signature_vectors(vector: Vector) -> None:
    """Each with the code it must give."""
    with pytest.raises(BistroError) as caught:
        _from_vector(vector)
    assert caught.value.code == vector.code
