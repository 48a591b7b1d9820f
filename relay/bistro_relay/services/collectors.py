"""Who asks for a call's fragments: signed requests, verified once and never a second time.

Source: docs/spec/collection.md, signed requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from bistro.api import routes
from bistro.api.message_signatures import Request, verify_request
from bistro.clock import Clock
from bistro.errors import FormatError
from bistro.ids import Origin
from bistro.wire.batches import SignedRequest
from bistro_relay.services.room import full_answered
from bistro_relay.services.terms_book import TermsBook
from bistro_relay.store.terms import NonceStore

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Collector:
    """A destination that asked for what is its own.

    Attributes:
        origin: The call whose collect key signed.
        request: What was signed, to be kept where it proves something.
    """

    origin: Origin
    request: SignedRequest


class CollectorDesk:
    """Tells whose request it is.

    Args:
        book: Terms, which name the keys.
        nonces: What was used before.
        clock: Tells the age of a request.
        base_url: The relay's own, as collectors use it: they sign it.
    """

    def __init__(self, book: TermsBook, nonces: NonceStore, clock: Clock, *, base_url: str) -> None:
        self._book = book
        self._nonces = nonces
        self._clock = clock
        parts = urlsplit(base_url)
        self._authority = parts.netloc.removesuffix(f":{_PORTS[parts.scheme]}")
        self._prefix = parts.path

    def require_signed(self, headers: Mapping[str, str]) -> None:
        """Refuse, before a body is read, what has no signature at all.

        Raises:
            FormatError: A header field is missing.
        """
        if routes.SIGNATURE not in headers:
            raise FormatError("expected a signed request, found no header Signature")

    async def identify(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Collector:
        """The call that a request speaks for.

        Args:
            method: As in the request line.
            target: Path and query as in the request line.
            headers: Header fields; names ignore case.
            body: All of it.

        Raises:
            FormatError: No signed request of the one profile.
            NotRegisteredError: No known terms name its key.
            VerificationError: Digest, times or signature do not hold.
            ConflictError: It was used before.
        """
        request = Request(
            method=method, authority=self._authority, target=self._prefix + target, body=body
        )
        verified = verify_request(
            request, headers, keys_of=self._book.keys_of, now=self._clock.now()
        )
        with full_answered():
            await self._nonces.remember(
                verified.key.format(), verified.nonce, expires_at=verified.expires_at
            )
        origin = Origin.parse(verified.key.name.removesuffix("/collect"))
        return Collector(origin, SignedRequest(verified.base, verified.signature, body))
