"""What every wire format promises, and the vectors of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import BistroError, FormatError
from bistro.wire import batches, codec, document, staging
from bistro.wire.anchor import Anchor, StampedEntry
from bistro.wire.claim import Claim
from bistro.wire.fragment import Cut, Descriptor, Layout
from bistro.wire.header import Header, SignedHeader
from bistro.wire.manifest import Manifest
from bistro.wire.terms import SignedTerms, Terms
from bistro.wire.ticketing import TicketAnswers, TicketRequests
from tests.support import messages, strategies
from tests.support.vectors import Vector, load_vectors


def decode_frame(data: bytes) -> batches.FrameHead:
    """The one head of a response whose bytes are all zero."""
    reader = batches.FrameReader()
    heads = [part for part in reader.feed(data) if isinstance(part, batches.FrameHead)]
    reader.finish()
    if len(heads) != 1:
        raise FormatError(f"expected one frame, found {len(heads)}")
    return heads[0]


def encode_frame(head: batches.FrameHead) -> bytes:
    return head.encode() + bytes(head.length)


@dataclass(frozen=True)
class Format:
    """A format under test: its values, and both ways between them and bytes."""

    name: str
    values: st.SearchStrategy[Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    def __str__(self) -> str:
        return self.name


def by_method(name: str, values: st.SearchStrategy[Any], cls: Any) -> Format:
    return Format(name, values, cls.encode, cls.decode)


FORMATS = [
    Format("codec", strategies.CODEC_VALUES, codec.encode, codec.decode),
    Format("document", strategies.JSON_VALUES, document.encode_json, document.decode_json),
    by_method("header", strategies.HEADERS, Header),
    by_method("submission.bin", strategies.SIGNED_HEADERS, SignedHeader),
    by_method("layout", strategies.LAYOUTS, Layout),
    by_method("descriptor", strategies.DESCRIPTORS, Descriptor),
    by_method("claim", strategies.CLAIMS, Claim),
    by_method("manifest", strategies.MANIFESTS, Manifest),
    Format("terms", strategies.TERMS, lambda terms: terms.text, Terms.parse),
    by_method("ticket requests", messages.TICKET_REQUESTS, TicketRequests),
    by_method("ticket answers", messages.TICKET_ANSWERS, TicketAnswers),
    Format("receipts", messages.PRESENTED, staging.encode_presented, staging.decode_presented),
    Format(
        "receipt answers",
        messages.RECEIPT_ANSWERS,
        staging.encode_receipt_answers,
        staging.decode_receipt_answers,
    ),
    Format("staged", messages.STAGED, staging.encode_staged, staging.decode_staged),
    Format("repairs", messages.REPAIRS, staging.encode_repairs, staging.decode_repairs),
    Format(
        "batch request",
        messages.BATCH_REQUESTS,
        batches.encode_batch_request,
        batches.decode_batch_request,
    ),
    Format("batch frame", messages.FRAME_HEADS, encode_frame, decode_frame),
    Format("releases", messages.RELEASES, batches.encode_releases, batches.decode_releases),
    Format(
        "release answers",
        messages.RELEASE_ANSWERS,
        batches.encode_release_answers,
        batches.decode_release_answers,
    ),
    by_method("signed request", messages.SIGNED_REQUESTS, batches.SignedRequest),
    by_method("anchor", messages.ANCHORS, Anchor),
    by_method("stamped entry", messages.STAMPED, StampedEntry),
]
each_format = pytest.mark.parametrize("form", FORMATS, ids=str)


@each_format
@given(data=st.data())
def test_decoding_undoes_encoding(form: Format, data: st.DataObject) -> None:
    """What was encoded is what is decoded."""
    value = data.draw(form.values)
    assert form.decode(form.encode(value)) == value


@each_format
@given(data=st.data())
def test_any_bytes_decode_or_are_malformed(form: Format, data: st.DataObject) -> None:
    """No bytes raise anything but the format error, and what decodes encodes to these bytes."""
    garbled = strategies.corrupted(form.values.map(form.encode)) | st.binary(max_size=200)
    found = data.draw(garbled)
    try:
        value = form.decode(found)
    except FormatError as error:
        assert "expected" in error.message or ":" in error.message  # noqa: PT017 - either outcome
    else:
        # A frame is followed by any bytes, which are not part of its head.
        encoded = form.encode(value)
        assert encoded == found[: len(encoded) - getattr(value, "length", 0)] + bytes(
            getattr(value, "length", 0)
        )


@each_format
@given(data=st.data())
def test_equal_values_have_equal_bytes_and_others_have_others(
    form: Format, data: st.DataObject
) -> None:
    """Bytes can be compared, hashed and signed in the place of values."""
    one, other = data.draw(form.values), data.draw(form.values)
    copy = form.decode(form.encode(one))
    assert form.encode(copy) == form.encode(one)
    # Not the values themselves: 1 and True are equal, and differ on the wire.
    assert (form.encode(one) == form.encode(other)) == (repr(one) == repr(other))


def decode_parts(data: bytes) -> tuple[Header, Cut]:
    """The parts of a commitment as its vectors hold them."""
    fields = codec.Reader("parts", data)
    header = Header.decode(fields.blob(1_024))
    layout = Layout.decode(fields.blob(1_024))
    descriptors = codec.Reader("descriptors", fields.array())
    fields.end()
    found = [Descriptor.decode(descriptors.blob(1_024)) for _ in range(len(descriptors))]
    return header, Cut(layout, tuple(found))


DECODERS: dict[str, Callable[[bytes], Any]] = {
    "layout": Layout.decode,
    "descriptor": Descriptor.decode,
    "commitment": decode_parts,
    "claim": Claim.decode,
    "manifest": Manifest.decode,
    "ticket-request": TicketRequests.decode,
    "ticket-answer": TicketAnswers.decode,
    "receipts": staging.decode_presented,
    "staged": staging.decode_staged,
    "repairs": staging.decode_repairs,
    "batch-request": batches.decode_batch_request,
    "batch-frame": decode_frame,
    "releases": batches.decode_releases,
    "anchor": Anchor.decode,
    "stamped": StampedEntry.decode,
}


FACTS: dict[str, Callable[[Any], Any]] = {
    "index": lambda value: getattr(value, "descriptor", value).index,
    "size": lambda value: value.size,
    "fragment_size": lambda value: value.fragment_size,
    "is_bulk": lambda value: value.is_bulk,
    "length": lambda value: value.length,
    "frame_code": lambda value: value.code,
    "count": lambda value: len(getattr(value, "items", value)),
    "leaf": lambda value: value.leaf.hex(),
    "digest": lambda value: value.digest.hex(),
    "files": lambda value: [file.path for file in value.files],
    "root": lambda value: value[1].root.hex(),
    "paths": lambda value: [
        [node.hex() for node in value[1].path(index)] for index in range(value[1].layout.n)
    ],
    "commitment": lambda value: (
        value.commitment if isinstance(value, Claim) else value[1].commitment(value[0].leaf)
    ).hex(),
}
"""What vectors tell about their values, and where to find it."""


def vectors_of(group: str) -> list[Any]:
    return [
        pytest.param(decode, vector, id=f"{name}: {vector.name}")
        for name, decode in DECODERS.items()
        for vector in load_vectors(name, group)
    ]


@pytest.mark.parametrize(("decode", "vector"), vectors_of("invalid"))
def test_bad_bytes_are_refused_with_the_code_of_the_vector(
    decode: Callable[[bytes], Any], vector: Vector
) -> None:
    """Every kind of mistake that the vectors know is found, and its error says what was wrong."""
    with pytest.raises(BistroError) as raised:
        decode(vector.data)
    assert raised.value.code == vector.code
    assert raised.value.message


@pytest.mark.parametrize(("decode", "vector"), vectors_of("valid"))
def test_good_bytes_decode_and_encode_to_themselves(
    decode: Callable[[bytes], Any], vector: Vector
) -> None:
    """The vectors' encodings are ours; they were put together from plain values."""
    value = decode(vector.data)
    if hasattr(value, "encode") and not isinstance(value, batches.FrameHead):
        assert value.encode() == vector.data
    known = {name: FACTS[name](value) for name in FACTS.keys() & vector.fields.keys()}
    assert known == {name: vector[name] for name in known}


@pytest.mark.parametrize("name", [*DECODERS, "header", "terms"])
def test_each_format_has_at_least_eight_bad_vectors(name: str) -> None:
    """A format without bad examples is not specified."""
    assert len(load_vectors(name, "invalid")) >= 8
    assert load_vectors(name, "valid")


def test_signed_terms_have_one_encoding() -> None:
    """A note that decodes encodes to the same bytes, signatures included."""
    for vector in load_vectors("terms", "valid"):
        assert SignedTerms.parse(vector.data).encode() == vector.data
