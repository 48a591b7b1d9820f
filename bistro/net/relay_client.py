"""Asks a relay what filers ask: what it is, the terms it knows, and to hold a fragment (tus 1.0).

An upload is three kinds of requests: create (with the first bytes, or all of a small
fragment), ask for the offset after an interruption, append. Each answers with an ``Upload``;
its receipt is there as soon as the relay holds the whole fragment durably.

Source: docs/spec/staging.md; docs/spec/api.md; tus 1.0.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bistro.api import media, routes
from bistro.errors import FormatError
from bistro.ids import Origin
from bistro.net.session import Answer, Body, Session
from bistro.wire.discovery import MAX_DISCOVERY_SIZE, RelayDiscovery
from bistro.wire.proof import MAX_PROOF_SIZE
from bistro.wire.receipt import Receipt
from bistro.wire.served_terms import MAX_SERVED_TERMS_SIZE, ServedTerms

_UPLOAD_ID = re.compile(r"(?:.*/)?uploads/([A-Za-z0-9_-]{1,128})")
_TUS = {routes.TUS_RESUMABLE: routes.TUS_VERSION}


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as the relay last described it.

    Attributes:
        id: The relay's own random name for it; part of the path, worth writing down.
        offset: Bytes that the relay has made durable; it never goes down.
        receipt: The receipt, not verified, once the fragment is complete.
    """

    id: str
    offset: int
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes to send, as a whole or from an asynchronous iterable, and how many they are."""

    body: Body
    size: int


class RelayClient:
    """A relay, as filers see it.

    Args:
        session: An open session.
        base_url: The relay's URL in the terms.
    """

    def __init__(self, session: Session, base_url: str) -> None:
        self._base = base_url
        self._session = session

    async def fetch_discovery(self) -> RelayDiscovery:
        """What the relay says about itself; unsigned."""
        url = routes.RELAY_DISCOVERY.url(self._base)
        answer = await self._session.ask("GET", url, limit=MAX_DISCOVERY_SIZE)
        return RelayDiscovery.decode(answer.body)

    async def fetch_terms(self, origin: Origin) -> ServedTerms:
        """The latest terms the relay knows of a call, neither note nor proof verified."""
        url = routes.RELAY_TERMS.url(self._base, server=origin.server, call=origin.call)
        answer = await self._session.ask("GET", url, limit=MAX_SERVED_TERMS_SIZE)
        return ServedTerms.decode(answer.body)

    async def create_upload(self, claim: bytes, *, size: int, first: Piece | None = None) -> Upload:
        """Show a claim, reserve room for the fragment, and send its first bytes.

        A fragment the relay holds already is answered with its receipt at once, so creating
        again after a lost answer is harmless.

        Args:
            claim: The encoded claim.
            size: Of the whole fragment.
            first: The bytes from its beginning, all of them where it is small.

        Raises:
            ChecksumMismatchError: What was sent is not what the claim says.
            RelayFullError: There is no room; another relay may have.
        """
        metadata = f"{routes.CLAIM_KEY} {base64.b64encode(claim).decode()}"
        headers = {**_TUS, routes.LENGTH: str(size), routes.METADATA: metadata}
        url = routes.UPLOAD_CREATION.url(self._base)
        answer = await self._send("POST", url, headers, first)
        match = _UPLOAD_ID.fullmatch(answer.headers.get("Location", ""))
        if match is None:
            raise FormatError("created upload: expected Location with an upload id")
        # Without a body the answer may leave the offset out: it is zero, or the relay holds
        # the fragment and says so with its receipt.
        is_told = routes.OFFSET in answer.headers
        return _read_upload(match[1], answer.headers, offset=None if is_told else 0)

    async def fetch_offset(self, upload: str) -> Upload:
        """Where to go on after an interruption.

        Raises:
            UnknownObjectError: The upload expired or was given up: create it again.
            UnavailableError: Another request still writes to it: ask again soon.
        """
        url = routes.UPLOAD_OFFSET.url(self._base, upload=upload)
        answer = await self._send("HEAD", url, _TUS, None)
        return _read_upload(upload, answer.headers)

    async def append(self, upload: str, piece: Piece, *, offset: int) -> Upload:
        """Send the bytes from ``offset`` on.

        Raises:
            ConflictError: The relay is at another offset: ask for it.
            ChecksumMismatchError: The fragment is complete and not what the claim says.
            UnknownObjectError: The upload expired or was given up: create it again.
        """
        url = routes.UPLOAD_BYTES.url(self._base, upload=upload)
        answer = await self._send("PATCH", url, {**_TUS, routes.OFFSET: str(offset)}, piece)
        return _read_upload(upload, answer.headers)

    async def terminate(self, upload: str) -> None:
        """Give up an upload that has no receipt yet."""
        url = routes.UPLOAD_TERMINATION.url(self._base, upload=upload)
        await self._send("DELETE", url, _TUS, None)

    async def fetch_receipt(self, upload: str) -> Receipt:
        """The receipt of a complete upload; ``UnknownObjectError`` while there is none."""
        url = routes.UPLOAD_RECEIPT.url(self._base, upload=upload)
        return Receipt.parse((await self._session.ask("GET", url, limit=MAX_PROOF_SIZE)).body)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], piece: Piece | None
    ) -> Answer:
        if piece is not None:
            content = {"Content-Type": media.TUS_BYTES, "Content-Length": str(piece.size)}
            headers = {**headers, **content}
        return await self._session.ask(
            method,
            url,
            headers=headers,
            body=None if piece is None else piece.body,
            # A large fragment takes its time: silence ends the request, not its length.
            timeouts=self._session.timeouts.streaming(),
        )


def _read_upload(upload: str, headers: Mapping[str, str], *, offset: int | None = None) -> Upload:
    found = headers.get(routes.RECEIPT)
    return Upload(
        id=upload,
        offset=routes.parse_offset(headers) if offset is None else offset,
        receipt=None if found is None else _read_receipt(found),
    )


def _read_receipt(field: str) -> Receipt:
    try:
        data = base64.b64decode(field, validate=True)
    except (ValueError, binascii.Error) as exc:
        raise FormatError(f"header {routes.RECEIPT}: expected base64") from exc
    return Receipt.parse(data)
