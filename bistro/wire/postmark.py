"""Postmarks: tickets given by relays while the destination cannot be reached, and bundles.

Source: docs/spec/ticketing.md, postmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

from bistro.crypto.digest import HASH_SIZE, sha256
from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError
from bistro.ids import postmarks_origin
from bistro.wire import codec
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.entry import Entry, PostmarkEntry
from bistro.wire.promise import Promise
from bistro.wire.proof import MAX_PROOF_SIZE

MAX_POSTMARKS: Final = 32
"""The most postmarks in a bundle; a quorum is a handful."""

MAX_BUNDLE_SIZE: Final = 262_144
"""The most bytes of an encoded bundle."""

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmark(Promise[PostmarkEntry]):
    """A commitment is in the ledger of a relay's postmarks."""

    NAME = "postmark"
    ENTRIES: ClassVar[tuple[type[Entry], ...]] = (PostmarkEntry,)

    @property
    def relay(self) -> str:
        """The name that the postmark gives its relay; :meth:`verify` compares it with the key."""
        return self.origin.removesuffix("/postmarks")

    @property
    def call_origin(self) -> str:
        """The call that the commitment is for."""
        return self.entry.call_origin

    def verify(self, relay_key: VerifierKey, commitment: bytes | None = None) -> Checkpoint:
        """The checkpoint that covers the entry.

        Args:
            relay_key: The relay's vkey from the terms, named as the relay.
            commitment: The commitment that was stamped; any, when None.

        Raises:
            VerificationError: Another relay or commitment, a bad signature or path.
        """
        return self._verify(relay_key, postmarks_origin(relay_key.name), commitment)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostmarkBundle:
    """Postmarks of one commitment for one call, sorted by relay name, one a relay."""

    commitment: bytes
    postmarks: tuple[Postmark, ...]

    def __post_init__(self) -> None:
        """Refuse at once what would not decode again."""
        if not 1 <= len(self.postmarks) <= MAX_POSTMARKS:
            raise FormatError(
                f"bundle: expected 1 to {MAX_POSTMARKS} postmarks, found {len(self.postmarks)}"
            )
        if any(postmark.commitment != self.commitment for postmark in self.postmarks):
            raise FormatError("bundle: a postmark is for another commitment")
        if len({postmark.call_origin for postmark in self.postmarks}) > 1:
            raise FormatError("bundle: the postmarks are for several calls")
        if any(first.relay >= second.relay for first, second in pairwise(self.postmarks)):
            raise FormatError("bundle: expected one postmark a relay, sorted by relay name")

    @property
    def call_origin(self) -> str:
        """The call that the commitment is for."""
        return self.postmarks[0].call_origin

    @property
    def digest(self) -> bytes:
        """The hash that a ``postmarked`` entry names."""
        return sha256(self.encode())

    def encode(self) -> bytes:
        """Canonical MessagePack ``[1, commitment, [postmark…]]``."""
        texts = [postmark.text() for postmark in self.postmarks]
        return codec.encode([_VERSION, self.commitment, texts])

    @classmethod
    def decode(cls, data: bytes) -> PostmarkBundle:
        """The bundle that ``data`` is the one encoding of; nothing is verified yet.

        Raises:
            FormatError: Anything else.
        """
        fields = codec.Reader("bundle", data, max_size=MAX_BUNDLE_SIZE)
        fields.constant(_VERSION)
        commitment = fields.fixed(HASH_SIZE)
        texts = fields.nested("bundle, postmarks")
        fields.end()
        postmarks = []
        while texts:
            postmarks.append(Postmark.parse(texts.text(MAX_PROOF_SIZE)))
        return cls(commitment=commitment, postmarks=tuple(postmarks))
