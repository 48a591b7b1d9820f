"""Uploads by tus 1.0: creation, creation-with-upload, expiration, termination, checksum.

Statuses that belong to tus alone (412, 415, 423, 410) are made here; everything else is a
``BistroError`` and becomes a problem document as everywhere.

Source: docs/spec/staging.md; tus 1.0.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from bistro.api import media, routes
from bistro.api.routes import Route
from bistro.crypto.keys import decode_base64
from bistro.daemon.bodies import read_body, stream_body
from bistro.daemon.caching import NEVER
from bistro.daemon.web import Endpoint, problem_response
from bistro.errors import (
    BistroError,
    FormatError,
    LimitExceededError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.protocol.transfer import require_intact_chunk
from bistro.wire.claim import MAX_CLAIM_SIZE
from bistro_relay.services.busy import UploadBusyError, UploadEndedError
from bistro_relay.services.intake import Intake, Progress
from bistro_relay.services.receiving import Checksum
from bistro_relay.services.room import Gate

OVERRIDE: Final = "X-HTTP-Method-Override"
ALGORITHMS: Final = {"sha1": 20, "sha256": 32}
"""Checksums that are understood, with their sizes; tus demands sha1."""

# Who cannot send PATCH or DELETE sends POST and names the method in a header field.
UPLOAD_OVERRIDE: Final = Route("upload_override", "POST", "/uploads/{upload}")

_MS_PER_S: Final = 1_000
_MAX_METADATA_LENGTH: Final = len(routes.CLAIM_KEY) + 1 + 4 * (MAX_CLAIM_SIZE // 3 + 1)

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class TusApi:
    """The resources ``/uploads`` and ``/uploads/{upload}``.

    Args:
        intake: Takes uploads.
        gate: Bounds open requests.
        base_url: The relay's own; its path stands before every ``Location``.
        idle_s: Seconds without a byte after which a request is cut off.
    """

    def __init__(self, intake: Intake, gate: Gate, *, base_url: str, idle_s: float) -> None:
        self._intake = intake
        self._gate = gate
        self._prefix = urlsplit(base_url).path
        self._idle_s = idle_s
        self._on_all: Mapping[str, _Handler] = {"OPTIONS": self._options, "POST": self._create}
        self._on_one: Mapping[str, _Handler] = {
            "HEAD": self._look,
            "PATCH": self._append,
            "DELETE": self._terminate,
        }

    def endpoints(self) -> list[Endpoint]:
        """What this answers."""
        return [
            Endpoint(routes.UPLOAD_OPTIONS, self._all),
            Endpoint(routes.UPLOAD_CREATION, self._all, is_stream=True),
            Endpoint(routes.UPLOAD_OFFSET, self._one),
            Endpoint(routes.UPLOAD_BYTES, self._one, is_stream=True),
            Endpoint(routes.UPLOAD_TERMINATION, self._one),
            Endpoint(UPLOAD_OVERRIDE, self._one, is_stream=True),
            Endpoint(routes.UPLOAD_RECEIPT, self._receipt),
        ]

    async def _all(self, request: web.Request) -> web.Response:
        return await self._dispatch(request, self._on_all)

    async def _one(self, request: web.Request) -> web.Response:
        return await self._dispatch(request, self._on_one)

    async def _dispatch(
        self, request: web.Request, handlers: Mapping[str, _Handler]
    ) -> web.Response:
        """Answer by the method that counts, once the version is one that is spoken here."""
        method = request.headers.get(OVERRIDE, request.method)
        handler = handlers.get(method)
        if handler is None:
            raise web.HTTPMethodNotAllowed(method, list(handlers))
        if method == "OPTIONS":
            return await handler(request)
        if request.headers.get(routes.TUS_RESUMABLE) != routes.TUS_VERSION:
            return _wrong_version()
        try:
            with self._gate.entered(request.remote):
                return await handler(request)
        except UploadBusyError:
            busy = UnavailableError("another request writes to this upload", retry_after_s=1.0)
            return _answer(HTTPStatus.LOCKED, busy)
        except UploadEndedError:
            ended = UnknownObjectError(
                "this upload has ended", hint="create it again with the same claim"
            )
            return _answer(HTTPStatus.GONE, ended)

    async def _options(self, _: web.Request) -> web.Response:
        return web.Response(
            status=HTTPStatus.NO_CONTENT,
            headers={
                routes.TUS_RESUMABLE: routes.TUS_VERSION,
                routes.TUS_VERSION_FIELD: routes.TUS_VERSION,
                routes.TUS_EXTENSION_FIELD: routes.TUS_EXTENSIONS,
                routes.TUS_CHECKSUM_FIELD: ",".join(ALGORITHMS),
                routes.TUS_MAX_SIZE_FIELD: str(self._intake.largest),
            },
        )

    async def _create(self, request: web.Request) -> web.Response:
        length = routes.parse_offset(request.headers, routes.LENGTH)
        if length > self._intake.largest:
            raise LimitExceededError(
                f"upload length: expected at most {self._intake.largest}, found {length}"
            )
        claim = parse_claim(request.headers.get(routes.METADATA))
        checksum = parse_checksum(request.headers.get(routes.CHECKSUM))
        has_body = request.body_exists and request.content_length != 0
        if has_body and not _is_tus_body(request):
            return _wrong_type()
        if has_body and self._intake.admit(length=length, size=request.content_length):
            try:
                progress = await self._keep(request, claim, length, checksum)
            finally:
                self._intake.dismiss(length)
        else:
            progress = await self._intake.create(claim, length=length)
        if has_body and progress.receipt is None:
            progress = await self._feed(request, progress.id, at=0, checksum=checksum)
        path = routes.UPLOAD_OFFSET.path(upload=progress.id)
        headers = {"Location": self._prefix + path, **_headers(progress)}
        return web.Response(status=HTTPStatus.CREATED, headers=headers)

    async def _keep(
        self, request: web.Request, claim: bytes, length: int, checksum: Checksum | None
    ) -> Progress:
        examined = await self._intake.examine(claim, length=length)
        if not self._intake.is_open(examined):
            # Said before a byte is read: why not, or that the fragment is held already.
            return await self._intake.create(claim, length=length)
        body = await read_body(request, limit=length, idle_s=self._idle_s)
        if checksum is not None:
            require_intact_chunk(
                expected=checksum.value, found=hashlib.new(checksum.algorithm, body).digest()
            )
        return await self._intake.keep(examined, body)

    async def _look(self, request: web.Request) -> web.Response:
        progress = await self._intake.look(request.match_info["upload"])
        claim = base64.b64encode(progress.claim).decode()
        headers = {
            routes.LENGTH: str(progress.size),
            routes.METADATA: f"{routes.CLAIM_KEY} {claim}",
            **_headers(progress),
        }
        return web.Response(status=HTTPStatus.OK, headers=headers)

    async def _append(self, request: web.Request) -> web.Response:
        if not _is_tus_body(request):
            return _wrong_type()
        at = routes.parse_offset(request.headers)
        checksum = parse_checksum(request.headers.get(routes.CHECKSUM))
        progress = await self._feed(request, request.match_info["upload"], at=at, checksum=checksum)
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=_headers(progress))

    async def _feed(
        self, request: web.Request, upload: str, *, at: int, checksum: Checksum | None
    ) -> Progress:
        chunks = stream_body(request, limit=self._intake.largest, idle_s=self._idle_s)
        length = request.content_length
        return await self._intake.append(upload, chunks, at=at, length=length, checksum=checksum)

    async def _terminate(self, request: web.Request) -> web.Response:
        await self._intake.terminate(request.match_info["upload"])
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _receipt(self, request: web.Request) -> web.Response:
        text = await self._intake.receipt(request.match_info["upload"])
        return web.Response(body=text, headers={"Content-Type": media.TEXT, "Cache-Control": NEVER})


async def add_tus_header(request: web.Request, response: web.StreamResponse) -> None:
    """Say the protocol's version in every answer about uploads, problems included."""
    if request.path.startswith(routes.UPLOAD_CREATION.template):
        response.headers[routes.TUS_RESUMABLE] = routes.TUS_VERSION


def parse_claim(metadata: str | None) -> bytes:
    """The claim in ``Upload-Metadata``: one key and no other.

    Raises:
        FormatError: It is missing, too long, or not of that form.
    """
    if metadata is None or len(metadata) > _MAX_METADATA_LENGTH:
        raise FormatError(
            f"header {routes.METADATA}: expected claim and its base64, "
            f"at most {_MAX_METADATA_LENGTH} characters"
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


def _headers(progress: Progress) -> dict[str, str]:
    headers = {routes.OFFSET: str(progress.offset), "Cache-Control": NEVER}
    if progress.expires_at is not None:
        headers[routes.EXPIRES] = formatdate(progress.expires_at // _MS_PER_S, usegmt=True)
    if progress.receipt is not None:
        headers[routes.RECEIPT] = base64.b64encode(progress.receipt).decode()
    return headers


def _is_tus_body(request: web.Request) -> bool:
    return media.essence(request.headers.get("Content-Type")) == media.TUS_BYTES


def _wrong_version() -> web.Response:
    wrong = FormatError(f"header {routes.TUS_RESUMABLE}: expected {routes.TUS_VERSION}")
    response = _answer(HTTPStatus.PRECONDITION_FAILED, wrong)
    response.headers[routes.TUS_VERSION_FIELD] = routes.TUS_VERSION
    return response


def _wrong_type() -> web.Response:
    wrong = FormatError(f"content type: expected {media.TUS_BYTES}")
    return _answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, wrong)


def _answer(status: HTTPStatus, error: BistroError) -> web.Response:
    response = problem_response(error)
    response.set_status(status)
    return response
