"""How an envelope is cut: layout, descriptors of the fragments, and the commitment over all.

``commitment = node(leaf(header), node(leaf(layout), F))``, where F is the Merkle root of the
descriptors. One fragment can be checked against the commitment without the others.

Source: docs/spec/fragments.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from bistro.crypto import merkle
from bistro.crypto.digest import HASH_SIZE, leaf_hash, node_hash
from bistro.crypto.treehash import PIECE_SIZE
from bistro.errors import FormatError
from bistro.wire import codec

UNIT_SIZE: Final = PIECE_SIZE
"""Bytes of a fragment's share in a full row of the envelope: a piece of both tree hashes."""
MAX_FRAGMENTS: Final = 255
MAX_ENVELOPE_SIZE: Final = 2**40
MAX_PATH_LENGTH: Final = 8
"""Hashes from a descriptor to the root over 255 of them."""
MAX_LAYOUT_SIZE: Final = 64
MAX_DESCRIPTOR_SIZE: Final = 64
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Layout:
    """How an envelope is cut into fragments.

    Attributes:
        envelope_hash: Tree hash of the envelope.
        envelope_size: Bytes of the envelope, at least one.
        k: Fragments that restore the envelope.
        n: Fragments that there are, from k to 255.

    Raises:
        FormatError: A number is outside its limits.
    """

    envelope_hash: bytes
    envelope_size: int
    k: int
    n: int

    def __post_init__(self) -> None:
        """Refuse numbers that no envelope is cut by."""
        if not 1 <= self.envelope_size <= MAX_ENVELOPE_SIZE:
            raise FormatError(
                f"layout: expected an envelope of 1 to {MAX_ENVELOPE_SIZE} bytes, "
                f"found {self.envelope_size}"
            )
        require_spread(self.k, self.n)

    @classmethod
    def decode(cls, data: bytes) -> Layout:
        """The layout that ``data`` encodes, or ``FormatError``."""
        fields = codec.Reader("layout", data, max_size=MAX_LAYOUT_SIZE)
        fields.constant(_VERSION)
        layout = cls(
            envelope_hash=fields.fixed(HASH_SIZE),
            envelope_size=fields.uint(),
            k=fields.uint(),
            n=fields.uint(),
        )
        fields.end()
        return layout

    def encode(self) -> bytes:
        """The one encoding of this layout."""
        return codec.encode([_VERSION, self.envelope_hash, self.envelope_size, self.k, self.n])

    @property
    def leaf(self) -> bytes:
        """The leaf hash that stands for the layout in the commitment."""
        return leaf_hash(self.encode())

    @property
    def fragment_size(self) -> int:
        """Bytes of each fragment: a unit a full row, and its share of the last row."""
        full_rows, rest = divmod(self.envelope_size, self.k * UNIT_SIZE)
        return full_rows * UNIT_SIZE + -(-rest // self.k)


def require_spread(k: int, n: int) -> None:
    """Accept ``1 <= k <= n <= 255``, or raise ``FormatError``."""
    if not 1 <= k <= n <= MAX_FRAGMENTS:
        raise FormatError(
            f"spread: expected 1 <= k <= n <= {MAX_FRAGMENTS}, found k = {k}, n = {n}"
        )


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What one fragment is: its place, size and tree hash.

    Raises:
        FormatError: A number is outside its limits.
    """

    index: int
    size: int
    fragment_hash: bytes

    def __post_init__(self) -> None:
        """Refuse numbers that no fragment has."""
        if not 0 <= self.index < MAX_FRAGMENTS:
            raise FormatError(
                f"descriptor: expected an index below {MAX_FRAGMENTS}, found {self.index}"
            )
        if not 1 <= self.size <= MAX_ENVELOPE_SIZE:
            raise FormatError(
                f"descriptor: expected a size of 1 to {MAX_ENVELOPE_SIZE}, found {self.size}"
            )

    @classmethod
    def decode(cls, data: bytes) -> Descriptor:
        """The descriptor that ``data`` encodes, or ``FormatError``."""
        fields = codec.Reader("descriptor", data, max_size=MAX_DESCRIPTOR_SIZE)
        descriptor = cls(
            index=fields.uint(), size=fields.uint(), fragment_hash=fields.fixed(HASH_SIZE)
        )
        fields.end()
        return descriptor

    def encode(self) -> bytes:
        """The one encoding of this descriptor."""
        return codec.encode([self.index, self.size, self.fragment_hash])

    @property
    def leaf(self) -> bytes:
        """The leaf hash that stands for the fragment in F."""
        return leaf_hash(self.encode())

    def require_fits(self, layout: Layout) -> None:
        """Accept a fragment that ``layout`` gives, or raise ``FormatError``."""
        if self.index >= layout.n:
            raise FormatError(
                f"descriptor: expected an index below n = {layout.n}, found {self.index}"
            )
        if self.size != layout.fragment_size:
            raise FormatError(
                f"descriptor {self.index}: expected the layout's {layout.fragment_size} bytes, "
                f"found {self.size}"
            )


@dataclass(frozen=True)
class Cut:
    """An envelope's layout with all its fragments: everything a commitment says of them.

    Attributes:
        layout: How the envelope was cut.
        descriptors: All n, by index.

    Raises:
        FormatError: The descriptors are not those of the indexes 0 to n - 1 in this order, or
            one has not the size that the layout gives.
    """

    layout: Layout
    descriptors: tuple[Descriptor, ...]

    def __post_init__(self) -> None:
        """Refuse descriptors that are not all there, each once and in order."""
        found = [descriptor.index for descriptor in self.descriptors]
        if found != list(range(self.layout.n)):
            raise FormatError(
                f"descriptors: expected the indexes 0 to {self.layout.n - 1} in order, "
                f"found {found}"
            )
        for descriptor in self.descriptors:
            descriptor.require_fits(self.layout)

    @cached_property
    def _leaves(self) -> tuple[bytes, ...]:
        return tuple(descriptor.leaf for descriptor in self.descriptors)

    @cached_property
    def root(self) -> bytes:
        """F, the Merkle root over the descriptors."""
        return merkle.root_of(self._leaves)

    def path(self, index: int) -> tuple[bytes, ...]:
        """The inclusion path of one descriptor in F, lowest sibling first."""
        return merkle.inclusion_path(self._leaves, index)

    def commitment(self, header_leaf: bytes) -> bytes:
        """The commitment that binds these fragments to the header of this leaf hash."""
        return commitment_of(header_leaf=header_leaf, layout_leaf=self.layout.leaf, root=self.root)


def commitment_of(*, header_leaf: bytes, layout_leaf: bytes, root: bytes) -> bytes:
    """``node(leaf(header), node(leaf(layout), F))``, 32 bytes; ``root`` is F."""
    return node_hash(header_leaf, node_hash(layout_leaf, root))


def path_length(index: int, n: int) -> int:
    """How many hashes lead from descriptor ``index`` to the root over ``n``."""
    return len(merkle.inclusion_nodes(index, n))


def root_from_path(descriptor: Descriptor, *, n: int, path: Sequence[bytes]) -> bytes:
    """The F that a descriptor and its inclusion path lead to.

    Raises:
        VerificationError: No tree over ``n`` descriptors has such a path.
    """
    return merkle.root_from_path(leaf=descriptor.leaf, index=descriptor.index, size=n, path=path)
