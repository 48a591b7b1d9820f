"""Keys as text: one key, one text, and no secret in a message."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bistro.crypto.age import bech32
from bistro.crypto.sealing import (
    KEY_KINDS,
    HybridRecipient,
    KeyKind,
    PassphraseIdentity,
    X25519Identity,
    X25519Recipient,
    decode_identity_file,
    encode_identity_file,
    generate_identity,
    parse_identity,
    parse_recipient,
)
from bistro.errors import FormatError

# The pair that the age specification prints.
SPEC_IDENTITY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
SPEC_RECIPIENT = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
SPEC_HYBRID = "AGE-SECRET-KEY-PQ-1XX76JRALNLXDMEW0CRK45QMCCH4X06SE84UN3VPM33W6HWDX0H3SK3ZQFR"


def test_the_specification_s_keys_belong_together() -> None:
    """The published secret key gives the published public key."""
    identity = parse_identity(SPEC_IDENTITY)
    assert identity == X25519Identity(b"B" * 32)
    assert identity.recipient.format() == SPEC_RECIPIENT
    assert parse_recipient(SPEC_RECIPIENT) == identity.recipient


def test_the_specification_s_hybrid_key_gives_its_recipient() -> None:
    """The first and last characters are those that the specification prints."""
    text = parse_identity(SPEC_HYBRID).recipient.format()
    assert len(text) == 1_959
    assert text.startswith("age1pq1x34nzsvr0rxjsgdn8zgyhfe8j7ceq5r9rdelkjuh3y235jzxshfg87pzf5zrq")
    assert text.endswith("qmwze9pyyzk3tlhl53k2ykx3qheyty7saeq0d3fzv49zc0k")


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_a_generated_key_reads_back(kind: KeyKind) -> None:
    """Text and file are undone by their readers, and each key is new."""
    identity = generate_identity(kind)
    assert identity.kind == identity.recipient.kind == kind
    assert parse_identity(identity.format()) == identity
    assert parse_recipient(identity.recipient.format()) == identity.recipient
    assert decode_identity_file(encode_identity_file(identity)) == (identity,)
    assert generate_identity(kind) != identity


@given(data=st.binary(max_size=80), prefix=st.sampled_from(["age", "AGE-SECRET-KEY-", "age1pq"]))
def test_decoding_undoes_encoding(data: bytes, prefix: str) -> None:
    """Any bytes have one text."""
    assert bech32.decode(prefix, bech32.encode(prefix, data)) == data


@given(at=st.integers(4, len(SPEC_RECIPIENT) - 1), character=st.characters())
def test_any_changed_character_is_refused(at: int, character: str) -> None:
    """A mistyped key never becomes another key."""
    text = SPEC_RECIPIENT[:at] + character + SPEC_RECIPIENT[at + 1 :]
    assume(text != SPEC_RECIPIENT)
    with pytest.raises(FormatError):
        parse_recipient(text)


@given(text=st.text(max_size=120) | st.text("age1qpzry9x8gf2tvdw0s3jn54khce6mua7l", max_size=90))
def test_any_text_is_a_key_or_malformed(text: str) -> None:
    """No other error, with any beginning."""
    for beginning in ("", "age1", "age1pq1", "AGE-SECRET-KEY-1", "AGE-SECRET-KEY-PQ-1"):
        for parse in (parse_recipient, parse_identity):
            with pytest.raises(FormatError):
                parse(beginning + text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with age1pq1 or age1"),
        (SPEC_RECIPIENT.upper(), "begins with"),
        (SPEC_RECIPIENT[:-1] + "J", "lower case"),
        (SPEC_RECIPIENT[:10] + "b" + SPEC_RECIPIENT[11:], "alphabet"),
        (SPEC_RECIPIENT[:-1], "checksum"),
        ("age1", "checksum"),
        (f" {SPEC_RECIPIENT}", "begins with"),
        (bech32.encode("age", bytes(31)), "32 bytes, found 31"),
        (bech32.encode("age", bytes(32)), "low order"),
        (bech32.encode("age1pq", bytes(32)), "1216 bytes, found 32"),
        (bech32.encode("age1pq", bytes(1_216)), "low order"),
        (bech32.encode("age1pq", b"\xff" * 1_184 + b"\x09" + bytes(31)), "no ML-KEM-768 key"),
    ],
)
def test_a_malformed_recipient_is_refused(text: str, message: str) -> None:
    """Each message says what is wrong."""
    with pytest.raises(FormatError, match=message):
        parse_recipient(text)


@pytest.mark.parametrize("digits", [[0] * 51 + [1], [0] * 54])
def test_padding_is_zero_and_shorter_than_a_character(digits: list[int]) -> None:
    """Two texts never stand for the same bytes."""
    residue = bech32._polymod([*bech32._expand("age"), *digits, *([0] * 6)]) ^ 1
    checksum = [residue >> 5 * (5 - i) & 31 for i in range(6)]
    text = "".join(bech32._CHARSET[digit] for digit in (*digits, *checksum))
    with pytest.raises(FormatError, match="padding"):
        parse_recipient(f"age1{text}")


@pytest.mark.parametrize("prefix", ["AGE-SECRET-KEY-", "AGE-SECRET-KEY-PQ-"])
def test_an_identity_of_another_size_is_refused(prefix: str) -> None:
    """Both kinds have 32 secret bytes."""
    with pytest.raises(FormatError, match="32 bytes, found 31"):
        parse_identity(bech32.encode(prefix, bytes(31)))


def test_no_message_and_no_repr_shows_a_secret() -> None:
    """A key that was mistyped must not end up in a log."""
    broken = f"{SPEC_IDENTITY[:-1]}Z"
    with pytest.raises(FormatError) as caught:
        decode_identity_file(f"# mine\n{broken}\n".encode())
    assert "line 2" in caught.value.message
    assert SPEC_IDENTITY[20:40] not in caught.value.message
    for secret in (parse_identity(SPEC_IDENTITY), PassphraseIdentity("open sesame")):
        assert "BBBB" not in repr(secret)
        assert "sesame" not in repr(secret)


def test_an_identity_file_holds_keys_comments_and_nothing_else() -> None:
    """Several keys are read in order; comments and empty lines are passed over."""
    text = f"# created: once\n\n{SPEC_IDENTITY}\n{SPEC_HYBRID}\n"
    kinds = [identity.kind for identity in decode_identity_file(text.encode())]
    assert kinds == ["x25519", "hybrid"]
    for bad in (b"", b"# only a comment\n", b"\xff", SPEC_RECIPIENT.encode()):
        with pytest.raises(FormatError, match="identity file"):
            decode_identity_file(bad)


def test_recipients_of_the_two_kinds_are_told_apart() -> None:
    """``age1pq1`` also begins with ``age1``; the longer prefix decides."""
    assert isinstance(parse_recipient(SPEC_RECIPIENT), X25519Recipient)
    hybrid = parse_identity(SPEC_HYBRID).recipient.format()
    assert isinstance(parse_recipient(hybrid), HybridRecipient)


def test_a_text_with_another_prefix_is_refused() -> None:
    """The prefix says what a text is for; the reader says which it expects."""
    with pytest.raises(FormatError, match="begins with bistro1"):
        bech32.decode("bistro", SPEC_RECIPIENT)
