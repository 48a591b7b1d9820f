"""The claim: what a relay is shown before it takes the first byte of a fragment.

It proves that the fragment belongs to a commitment that the destination, or while it is down
a relay, has promised a time to.

Source: docs/spec/staging.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from bistro.crypto.digest import HASH_SIZE
from bistro.errors import FormatError
from bistro.ids import MAX_ORIGIN_LENGTH, Origin
from bistro.wire import codec
from bistro.wire.fragment import (
    MAX_DESCRIPTOR_SIZE,
    MAX_LAYOUT_SIZE,
    MAX_PATH_LENGTH,
    Descriptor,
    Layout,
    commitment_of,
    path_length,
    root_from_path,
)

MAX_CLAIM_SIZE: Final = 4_608
"""Bytes of a claim: 6,144 in the base64 of a request header, which servers limit to 8 KB."""
MAX_PROMISE_SIZE: Final = 4_096
_VERSION: Final = 1


@dataclass(frozen=True)
class Claim:
    """That one fragment belongs to a commitment with a promise.

    Attributes:
        origin: The call.
        promise: Ticket or postmark, a tlog-proof text; what it says is the reader's to verify.
        layout: How the envelope is cut.
        header_leaf: Leaf hash of the header, which stays hidden.
        descriptor: The fragment.
        path: Inclusion path of the descriptor in F, lowest sibling first.

    Raises:
        FormatError: The descriptor is none of the layout's, the path has not the length that
            leads from it to F, or the promise has no or too many bytes.
    """

    origin: Origin
    promise: str
    layout: Layout
    header_leaf: bytes
    descriptor: Descriptor
    path: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        self.descriptor.require_fits(self.layout)
        expected = path_length(self.descriptor.index, self.layout.n)
        if len(self.path) != expected:
            raise FormatError(
                f"claim for fragment {self.descriptor.index} of {self.layout.n}: "
                f"expected a path of {expected} hashes, found {len(self.path)}"
            )
        if not 1 <= len(self.promise) <= MAX_PROMISE_SIZE:
            raise FormatError(
                f"claim: expected a promise of 1 to {MAX_PROMISE_SIZE} characters, "
                f"found {len(self.promise)}"
            )

    @classmethod
    def decode(cls, data: bytes) -> Claim:
        """The claim that ``data`` encodes, or ``FormatError``."""
        fields = codec.Reader("claim", data, max_size=MAX_CLAIM_SIZE)
        fields.constant(_VERSION)
        claim = cls(
            origin=Origin.parse(fields.text(MAX_ORIGIN_LENGTH)),
            promise=fields.text(MAX_PROMISE_SIZE),
            layout=Layout.decode(fields.blob(MAX_LAYOUT_SIZE)),
            header_leaf=fields.fixed(HASH_SIZE),
            descriptor=Descriptor.decode(fields.blob(MAX_DESCRIPTOR_SIZE)),
            path=_read_path(codec.Reader("claim, path", fields.array(MAX_PATH_LENGTH))),
        )
        fields.end()
        return claim

    def encode(self) -> bytes:
        """The one encoding of this claim.

        Raises:
            FormatError: The promise is so long that no relay would read the claim.
        """
        data = codec.encode(
            [
                _VERSION,
                str(self.origin),
                self.promise,
                self.layout.encode(),
                self.header_leaf,
                self.descriptor.encode(),
                self.path,
            ]
        )
        if len(data) > MAX_CLAIM_SIZE:
            raise FormatError(f"claim: expected at most {MAX_CLAIM_SIZE} bytes, found {len(data)}")
        return data

    @cached_property
    def commitment(self) -> bytes:
        """The commitment that all this leads to; the promise must be for it."""
        root = root_from_path(self.descriptor, n=self.layout.n, path=self.path)
        return commitment_of(header_leaf=self.header_leaf, layout_leaf=self.layout.leaf, root=root)


def _read_path(fields: codec.Reader) -> tuple[bytes, ...]:
    return tuple(fields.fixed(HASH_SIZE) for _ in range(len(fields)))
