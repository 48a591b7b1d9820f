"""An authority that is not ours: asked for stamps, and believed only what holds.

Source: docs/spec/timestamps.md, anchors and checking a token of another authority.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bistro.clock import Clock
from bistro.crypto.digest import sha256
from bistro.crypto.timestamp import der
from bistro.crypto.timestamp.chain import chain_to, load_trusted, verify_chained
from bistro.errors import FormatError, SettingsError, VerificationError
from bistro.instant import format_duration
from bistro.wire.anchor import Timestamp
from bistro_server.services.folder import require_file

MAX_OFF_MS: Final = 60_000
"""By how much an authority's clock and ours may differ before its stamp is not kept."""

_NONCE_SIZE: Final = 8
_HINT: Final = "correct [anchoring] in the settings"


class Asker(Protocol):
    """Asks an authority; see ``bistro.net.timestamp_client``."""

    async def ask(self, digest: bytes, *, nonce: bytes) -> bytes:
        """The token over a SHA-256, not verified."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Notary:
    """An authority that is not ours, whose stamps are verified.

    Attributes:
        asker: Asks it.
        trusted: DER of its certificate, or of those above it.
        policy: DER of the policy that its stamps must have; ``None``: any.
        clock: Ours, to see whether its time can be.
        random_bytes: Makes nonces.
    """

    asker: Asker
    trusted: Sequence[bytes]
    policy: bytes | None
    clock: Clock
    random_bytes: Callable[[int], bytes]

    async def stamp(self, digest: bytes) -> Timestamp:
        """A stamp over a SHA-256 that holds, with the chain that shows it.

        Raises:
            BistroError: The authority cannot be reached or refuses.
            FormatError: What it answers is no token, or of a form that is not understood.
            VerificationError: What it answers does not hold.
        """
        # Neither negative nor with a leading zero.
        nonce = der.encode(der.INTEGER, b"\x01" + self.random_bytes(_NONCE_SIZE))
        token = await self.asker.ask(digest, nonce=nonce)
        return await asyncio.to_thread(self._verify, token, digest, nonce)

    async def try_out(self) -> Timestamp:
        """A stamp over nothing in particular, for whoever wants to know whether it would stamp.

        Raises:
            BistroError: As ``stamp``.
        """
        return await self.stamp(sha256(self.random_bytes(_NONCE_SIZE)))

    def _verify(self, token: bytes, digest: bytes, nonce: bytes) -> Timestamp:
        chain = chain_to(token, self.trusted)
        stamp = verify_chained(token, chain)
        if (stamp.digest, stamp.nonce) != (digest, nonce):
            raise VerificationError("time stamp: it answers another request")
        if self.policy not in {None, stamp.policy}:
            raise VerificationError("time stamp: it is under another policy than the settings ask")
        off_ms = stamp.time - self.clock.now()
        if abs(off_ms) > MAX_OFF_MS:
            raise VerificationError(
                f"time stamp: its time is {format_duration(off_ms)} off ours, expected at most "
                f"{format_duration(MAX_OFF_MS)}",
                hint="compare this machine's clock with another one",
            )
        return Timestamp(token, chain)


def load_notary_certificates(path: Path) -> tuple[bytes, ...]:
    """DER of the certificates of an authority, or of those above it; blocks.

    Raises:
        SettingsError: There is no such file, or it holds none.
    """
    data = require_file(path, what="certificate of the authority", hint=_HINT)
    try:
        return load_trusted(data)
    except FormatError as exc:
        raise SettingsError(f"{path}: {exc.message}", hint=_HINT) from exc
