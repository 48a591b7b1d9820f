"""Header fields of uploads: read strictly, and written the same in every answer.

Source: docs/spec/staging.md; tus 1.0.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from email.utils import formatdate
from typing import Final

from aiohttp import web

from bistro.api import routes
from bistro.crypto.keys import decode_base64
from bistro.daemon.caching import NEVER
from bistro.errors import FormatError
from bistro.wire.claim import MAX_CLAIM_SIZE, Claim
from bistro_relay.services.intake import Progress
from bistro_relay.services.receiving import Checksum

ALGORITHMS: Final = {"sha1": 20, "sha256": 32}
"""Checksums that are understood, with their sizes; tus demands sha1."""

_MS_PER_S: Final = 1_000
MAX_METADATA_LENGTH: Final = len(routes.CLAIM_KEY) + 1 + 4 * (MAX_CLAIM_SIZE // 3 + 1)


def parse_claim(metadata: str | None) -> bytes:
    """The claim in ``Upload-Metadata``: one key and no other.

    Raises:
        FormatError: It is missing, too long, or not of that form.
    """
    if metadata is None or len(metadata) > MAX_METADATA_LENGTH:
        raise FormatError(
            f"header {routes.METADATA}: expected claim and its base64, "
            f"at most {MAX_METADATA_LENGTH} characters"
        )
    key, _, value = metadata.partition(" ")
    if key != routes.CLAIM_KEY or not value:
        raise FormatError(f"header {routes.METADATA}: expected the key claim and no other")
    return decode_base64(f"header {routes.METADATA}", value)


def parse_checksum(field: str | None) -> Checksum | None:
    """What ``Upload-Checksum`` announces.

    Raises:
        FormatError: Another algorithm, or no base64 of its size.
    """
    if field is None:
        return None
    algorithm, _, value = field.partition(" ")
    size = ALGORITHMS.get(algorithm)
    if size is None:
        raise FormatError(
            f"header {routes.CHECKSUM}: expected one of {', '.join(ALGORITHMS)}, "
            f"found {algorithm[:32]!a}"
        )
    digest = decode_base64(f"header {routes.CHECKSUM}", value)
    if len(digest) != size:
        raise FormatError(f"header {routes.CHECKSUM}: expected {size} bytes, found {len(digest)}")
    return Checksum(algorithm, digest)


def require_one_upload(headers: Mapping[str, str], claim: bytes) -> None:
    """Refuse extensions of tus that a claim leaves no room for.

    Raises:
        FormatError: A length to be told later, although the claim fixes it, or a part of an
            upload; or no claim.
    """
    if routes.CONCATENATION in headers:
        raise FormatError(
            f"header {routes.CONCATENATION}: a fragment is one upload, parts are not joined here",
            hint="upload each fragment by itself, and fragments beside each other",
        )
    if routes.DEFERRED_LENGTH in headers:
        size = Claim.decode(claim).descriptor.size
        raise FormatError(
            f"header {routes.DEFERRED_LENGTH}: the claim fixes the length",
            hint=f"send {routes.LENGTH}: {size} instead",
        )


def progress_fields(progress: Progress) -> dict[str, str]:
    """What every answer says of an upload."""
    fields = {routes.OFFSET: str(progress.offset), "Cache-Control": NEVER}
    if progress.expires_at is not None:
        fields[routes.EXPIRES] = formatdate(progress.expires_at // _MS_PER_S, usegmt=True)
    if progress.receipt is not None:
        fields[routes.RECEIPT] = base64.b64encode(progress.receipt).decode()
    return fields


def upload_url(base_url: str, upload: str) -> str:
    """The ``Location`` of an upload: whole, for some clients cannot join a relative one."""
    return routes.UPLOAD_OFFSET.url(base_url, upload=upload)


def has_body(request: web.Request) -> bool:
    """Whether a request brings bytes."""
    return request.body_exists and request.content_length != 0
