"""Refusals: the destination's signed statement that a commitment came and was not admitted.

Source: docs/spec/ticketing.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bistro.crypto.signing import VerifierKey
from bistro.ids import Origin
from bistro.wire.checkpoint import Checkpoint
from bistro.wire.entry import Entry, RefusedEntry
from bistro.wire.promise import Promise


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Promise[RefusedEntry]):
    """A commitment is in the ledger of a call's refusals: proof of an attempt."""

    NAME = "refusal"
    ENTRIES: ClassVar[tuple[type[Entry], ...]] = (RefusedEntry,)

    @property
    def reason(self) -> str:
        """Why, a word from ``bistro.wire.entry.REASONS``."""
        return self.entry.reason

    @property
    def call_origin(self) -> str:
        """The call that refused."""
        return self.origin.removesuffix("/refusals")

    def verify(
        self, log_key: VerifierKey, origin: Origin | str, commitment: bytes | None = None
    ) -> Checkpoint:
        """The checkpoint that covers the entry.

        Args:
            log_key: ``keys.log`` of the call's terms, under any name.
            origin: The call, ``<server>/<call>``, without ``/refusals``.
            commitment: The commitment that was refused; any, when None.

        Raises:
            VerificationError: Another call or commitment, a bad signature or path.
        """
        return self._verify(log_key, Origin.parse(str(origin)).refusals, commitment)
