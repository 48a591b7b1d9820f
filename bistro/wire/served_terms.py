"""A version of a call's terms together with the proof of its place in the call's log, as JSON.

Source: docs/spec/api.md, ``GET /calls/{call}/terms``; docs/spec/terms.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bistro.errors import FormatError
from bistro.wire.document import Fields, encode_json
from bistro.wire.proof import MAX_PROOF_SIZE
from bistro.wire.terms import SignedTerms
from bistro.wire.ticket import TermsInForce

MAX_TERMS_LENGTH: Final = 262_144
MAX_SERVED_TERMS_SIZE: Final = 4 * (MAX_TERMS_LENGTH + MAX_PROOF_SIZE)
"""Characters are at most four bytes each."""


@dataclass(frozen=True, slots=True)
class ServedTerms:
    """What servers and relays hand out: signed terms and their log entry, neither verified.

    Attributes:
        signed: The note.
        entry: The entry that names its hash, with the proof.

    Raises:
        FormatError: The entry is about other terms or another call.
    """

    signed: SignedTerms
    entry: TermsInForce

    def __post_init__(self) -> None:
        """Refuse two things that do not belong together."""
        same_call = self.entry.origin == str(self.signed.origin)
        if not same_call or self.entry.commitment != self.signed.hash:
            raise FormatError("served terms: expected the proof of these terms, found another")

    def encode(self) -> bytes:
        """The body that hands them out."""
        return encode_json({"proof": self.entry.text(), "terms": self.signed.encode().decode()})

    @classmethod
    def decode(cls, data: bytes) -> ServedTerms:
        """The terms that a body hands out, or ``FormatError``."""
        fields = Fields("served terms", data, max_size=MAX_SERVED_TERMS_SIZE)
        served = cls(
            signed=SignedTerms.parse(fields.text("terms", MAX_TERMS_LENGTH, minimum=1).encode()),
            entry=TermsInForce.parse(fields.text("proof", MAX_PROOF_SIZE, minimum=1)),
        )
        fields.end()
        return served
