"""Bundles of postmarks: canonical, sorted, of one commitment for one call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.digest import sha256
from bistro.errors import BistroError, FormatError
from bistro.ids import postmarks_origin
from bistro.instant import UnixMillis
from bistro.wire.entry import PostmarkEntry
from bistro.wire.postmark import MAX_POSTMARKS, Postmark, PostmarkBundle
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key
from tests.support.vectors import Vector, each_vector

COMMITMENT = sha256(b"commitment")


def _postmark(relay: str, *, time: int = 5) -> Postmark:
    ledger = MemoryLedger(note_key(relay).renamed(postmarks_origin(relay)))
    entry = PostmarkEntry(
        origin=postmarks_origin(relay),
        time=UnixMillis(time),
        digest=COMMITMENT,
        call_origin="permits.example/spring",
    )
    return Postmark.parse(ledger.promise(entry))


BUNDLES = st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=4).map(
    lambda letters: PostmarkBundle(
        commitment=COMMITMENT,
        postmarks=tuple(_postmark(f"{letter}.example") for letter in sorted(letters)),
    )
)


@each_vector("postmark_bundle", "valid")
def test_a_valid_bundle_decodes_to_its_postmarks(vector: Vector) -> None:
    """Each postmark verifies with its own relay's key."""
    bundle = PostmarkBundle.decode(vector.data)
    assert bundle.encode() == vector.data
    assert bundle.digest == sha256(vector.data)
    assert [postmark.relay for postmark in bundle.postmarks] == vector["relays"]
    assert bundle.call_origin == "permits.example/spring"
    for postmark in bundle.postmarks:
        postmark.verify(note_key(postmark.relay).verifier, vector.hex("commitment"))


@each_vector("postmark_bundle", "invalid")
def test_an_invalid_bundle_is_refused_with_its_code(vector: Vector) -> None:
    """One set of postmarks has one bundle."""
    with pytest.raises(BistroError) as caught:
        PostmarkBundle.decode(vector.data)
    assert caught.value.code == vector.code


@given(bundle=BUNDLES)
def test_decoding_undoes_encoding(bundle: PostmarkBundle) -> None:
    """What was written reads back as the same value."""
    assert PostmarkBundle.decode(bundle.encode()) == bundle


@given(data=st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    """There is no third way out, whatever arrives."""
    with pytest.raises(FormatError):
        PostmarkBundle.decode(data)


def test_a_bundle_has_a_most() -> None:
    """A reader never works through thousands of signatures."""
    postmarks = tuple(_postmark(f"r{number:02}.example") for number in range(MAX_POSTMARKS + 1))
    with pytest.raises(FormatError, match="expected 1 to 32 postmarks, found 33"):
        PostmarkBundle(commitment=COMMITMENT, postmarks=postmarks)
