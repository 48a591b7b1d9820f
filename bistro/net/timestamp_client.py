"""Asks an RFC 3161 authority for a stamp, over HTTP as RFC 3161 says.

What it answers is signed, so plain HTTP will do wherever it is; nothing of it is verified here.

Source: docs/spec/timestamps.md, anchors; RFC 3161, section 3.4.
"""

from __future__ import annotations

from bistro.api import media
from bistro.crypto.timestamp.request import encode_query
from bistro.crypto.timestamp.verification import MAX_TOKEN_SIZE, token_of
from bistro.net.session import Session

_MAX_RESPONSE_SIZE = MAX_TOKEN_SIZE + 1_024
"""A token, and the status around it."""


class TimestampClient:
    """An authority.

    Args:
        session: An open session that takes plain HTTP, too, if ``url`` is such.
        url: Where the authority answers.
    """

    def __init__(self, session: Session, url: str) -> None:
        self._session = session
        self._url = url

    async def ask(self, digest: bytes, *, nonce: bytes) -> bytes:
        """The token over a SHA-256, not verified.

        Args:
            digest: 32 bytes.
            nonce: DER of an INTEGER.

        Raises:
            BistroError: It refuses; what its problem document names.
            FormatError: It answers something else, or that it gives no token.
            UnavailableError: It cannot be reached.
        """
        answer = await self._session.ask(
            "POST",
            self._url,
            headers={"Content-Type": media.TIMESTAMP_QUERY},
            body=encode_query(digest, nonce=nonce),
            limit=_MAX_RESPONSE_SIZE,
        )
        media.require_media_type(answer.headers.get("Content-Type"), media.TIMESTAMP_REPLY)
        return token_of(answer.body)
