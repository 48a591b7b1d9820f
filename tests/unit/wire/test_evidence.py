"""Evidence files: every part in one form, every missing part named."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import BistroError, FormatError
from bistro.ids import Origin
from bistro.wire.anchor import Timestamp
from bistro.wire.evidence import (
    MAX_BLOB_SIZE,
    MAX_EVIDENCE_SIZE,
    OPTIONAL_PARTS,
    Evidence,
    TermsVersion,
)
from tests.support.vectors import Vector, each_vector

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
BLOBS = st.binary(min_size=1, max_size=30)
BUILDERS = {
    "admission": BLOBS,
    "closed": TEXTS,
    "consistency": st.lists(st.binary(min_size=32, max_size=32), max_size=3).map(tuple),
    "file_key": st.binary(min_size=16, max_size=16),
    "held": st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
    "manifest": BLOBS,
    "minutes": TEXTS,
    "opening": TEXTS,
    "outcome": TEXTS,
    "postmarks": BLOBS,
    "receipts": st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
    "refusal": TEXTS,
    "rotations": st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
    "status": TEXTS,
    "timestamps": st.lists(
        st.builds(Timestamp, BLOBS, st.lists(BLOBS, min_size=1, max_size=3).map(tuple)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    "witnessed": TEXTS,
}
MINIMAL = Evidence(
    origin=Origin("permits.example", "spring"),
    terms_key="key",
    terms=(TermsVersion("note", "proof"),),
    submission=b"submission",
    layout=b"layout",
    descriptors=(b"first", b"second"),
    ticket="ticket",
)
EVIDENCE = st.fixed_dictionaries({"ticket": TEXTS}, optional=BUILDERS).map(
    lambda parts: replace(MINIMAL, **parts)  # type: ignore[arg-type]
)


@each_vector("evidence", "valid")
def test_a_valid_file_decodes_and_names_what_is_absent(vector: Vector) -> None:
    """Present and absent together are all parts there are."""
    evidence = Evidence.decode(vector.data)
    assert evidence.encode() == vector.data
    assert list(evidence.absent) == vector["absent"]
    assert evidence.is_attempt == vector["is_attempt"]


@each_vector("evidence", "invalid")
def test_an_invalid_file_is_refused_with_its_code(vector: Vector) -> None:
    """One evidence has one file."""
    with pytest.raises(BistroError) as caught:
        Evidence.decode(vector.data)
    assert caught.value.code == vector.code


@given(evidence=EVIDENCE)
def test_decoding_undoes_encoding(evidence: Evidence) -> None:
    """Every part survives, whatever it holds."""
    assert Evidence.decode(evidence.encode()) == evidence


@given(first=EVIDENCE, second=EVIDENCE)
def test_equal_evidence_has_equal_bytes(first: Evidence, second: Evidence) -> None:
    """Bytes are equal exactly where values are."""
    assert (first == second) == (first.encode() == second.encode())


@given(data=st.binary(max_size=200) | TEXTS.map(str.encode))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    """There is no third way out, whatever arrives."""
    with pytest.raises(FormatError):
        Evidence.decode(data)


@given(evidence=EVIDENCE)
def test_every_optional_part_is_present_or_absent(evidence: Evidence) -> None:
    """No part is forgotten: absence is a statement."""
    present = {part for part in OPTIONAL_PARTS if evidence.has(part)}
    assert present | set(evidence.absent) == set(OPTIONAL_PARTS)
    assert not present & set(evidence.absent)


def test_every_field_is_a_part() -> None:
    """A field that is added must be listed, or it would be neither present nor absent."""
    always = {"origin", "terms_key", "terms", "submission", "layout", "descriptors"}
    assert {field.name for field in fields(Evidence)} == always | set(OPTIONAL_PARTS)
    assert list(OPTIONAL_PARTS) == sorted(OPTIONAL_PARTS)


def test_evidence_needs_a_ticket_or_a_refusal() -> None:
    """A file that proves nothing cannot be made."""
    with pytest.raises(FormatError, match="expected a ticket or a refusal"):
        replace(MINIMAL, ticket=None)


@pytest.mark.parametrize(
    "large",
    [
        {"manifest": bytes(MAX_BLOB_SIZE + 1)},
        {"file_key": bytes(15)},
        {"ticket": "x" * 65_537},
        {"descriptors": (b"x" * 200,)},
        {"timestamps": (Timestamp(bytes(65_537), (b"x",)),)},
        {"timestamps": (Timestamp(b"x", (bytes(16_385),)),)},
        {"timestamps": (Timestamp(b"x", (b"x",) * 9),)},
        {"timestamps": (Timestamp(b"x", ()),)},
        {"timestamps": (Timestamp(b"x", (b"x",)),) * 17},
        {"manifest": bytes(MAX_BLOB_SIZE), "admission": bytes(MAX_BLOB_SIZE)},
    ],
)
def test_a_file_above_a_limit_is_not_written(large: dict[str, object]) -> None:
    """Whoever writes evidence learns at once that nobody would read it."""
    with pytest.raises(FormatError):
        replace(MINIMAL, **large).encode()  # type: ignore[arg-type]


def test_a_file_above_the_limit_is_refused_before_it_is_parsed() -> None:
    """Readers need no more memory than the limit."""
    with pytest.raises(FormatError, match="expected at most"):
        Evidence.decode(b" " * (MAX_EVIDENCE_SIZE + 1))


def test_a_lone_surrogate_is_no_part() -> None:
    """Text that has no UTF-8 cannot be written."""
    with pytest.raises(FormatError):
        replace(MINIMAL, status="\ud800").encode()


def test_an_empty_text_is_no_part() -> None:
    """Empty is neither present nor absent, so it is refused."""
    with pytest.raises(FormatError):
        replace(MINIMAL, status="").encode()
