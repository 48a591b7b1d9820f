"""What all promises share: a proof together with the entry it carries, decoded.

A promise names the kinds of entry it may carry and the ledger whose key must have signed it;
the rest is here.

Source: docs/spec/promises.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, Self, TypeVar

from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError, VerificationError
from bistro.instant import UnixMillis
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.entry import Entry, decode_entry
from bistro.wire.proof import Proof

EntryT = TypeVar("EntryT", bound=Entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise(Generic[EntryT]):
    """A proof and the entry in it; :meth:`parse` trusts neither."""

    NAME: ClassVar[str]
    ENTRIES: ClassVar[tuple[type[Entry], ...]]

    proof: Proof
    entry: EntryT

    @classmethod
    def parse(cls, data: bytes | str) -> Self:
        """The promise that the tlog-proof text ``data`` spells; nothing is verified yet.

        Raises:
            FormatError: The text is malformed, or carries no entry of this kind.
        """
        proof = Proof.parse(data)
        if proof.entry is None:
            raise FormatError(f"{cls.NAME}: the proof carries no entry")
        entry = decode_entry(proof.entry)
        if not isinstance(entry, cls.ENTRIES):
            wanted = " or ".join(kind.KIND for kind in cls.ENTRIES)
            raise FormatError(f"{cls.NAME}: expected a {wanted} entry, found {entry.KIND}")
        return cls(proof=proof, entry=entry)  # type: ignore[arg-type] # ENTRIES says EntryT

    def text(self) -> str:
        """The tlog-proof text, verbatim as in the promise's file."""
        return self.proof.format().decode()

    @property
    def origin(self) -> str:
        """The ledger that holds the entry."""
        return self.entry.origin

    @property
    def time(self) -> UnixMillis:
        """When the ledger's owner says it happened."""
        return self.entry.time

    @property
    def index(self) -> int:
        """The entry's place in its ledger."""
        return self.proof.index

    @property
    def commitment(self) -> bytes:
        """The hash in the entry: a commitment, or a terms hash in entries about a call."""
        return self.entry.digest

    def _verify(self, key: VerifierKey, origin: str, commitment: bytes | None) -> Checkpoint:
        """Check the ledger, the commitment, the signature of ``key`` renamed and the path."""
        if self.origin != origin:
            raise VerificationError(
                f"{self.NAME}: expected ledger {origin!r}, found {self.origin!r}"
            )
        if commitment is not None and self.commitment != commitment:
            raise VerificationError(
                f"{self.NAME}: expected sha256:{commitment.hex()}, "
                f"found sha256:{self.commitment.hex()}"
            )
        # The same public key signs several ledgers; its key id depends on the ledger's name.
        return self.proof.verify(key.renamed(origin))
