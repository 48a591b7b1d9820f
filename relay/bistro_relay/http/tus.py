"""Uploads by tus 1.0: creation, creation-with-upload, expiration, termination, checksum.

Statuses that belong to tus alone (412, 415, 423, 410) are made here; everything else is a
``BistroError`` and becomes a problem document as everywhere. Requests that speak the IETF draft
ask the same addresses: ``draft`` answers them, where the operator wants it.

Source: docs/spec/staging.md; docs/spec/tus.md; tus 1.0.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from bistro.api import media, routes
from bistro.api.routes import Route
from bistro.daemon.caching import NEVER
from bistro.daemon.web import Endpoint, problem_response
from bistro.errors import (
    BistroError,
    FormatError,
    UnavailableError,
    UnknownObjectError,
)
from bistro_relay.http.draft import SAID, SAID_FIELDS, DraftApi
from bistro_relay.http.feeding import Feeder
from bistro_relay.http.repeated import require_once
from bistro_relay.http.upload_fields import (
    ALGORITHMS,
    has_body,
    parse_checksum,
    parse_claim,
    progress_fields,
    require_one_upload,
    upload_url,
)
from bistro_relay.services.busy import UploadBusyError, UploadEndedError
from bistro_relay.services.room import Gate

# Who cannot send PATCH or DELETE names it in a header field: the real method does not count.
UPLOADS_OVERRIDE: Final = Route("uploads_override", hdrs.METH_ANY, "/uploads")
UPLOAD_OVERRIDE: Final = Route("upload_override", hdrs.METH_ANY, "/uploads/{upload}")

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class TusApi:
    """The resources ``/uploads`` and ``/uploads/{upload}``.

    Args:
        feeder: Brings bodies to uploads.
        gate: Bounds open requests.
        base_url: The relay's own; it stands before every ``Location``.
        draft: Answers requests in the IETF draft; None: they are not understood.
    """

    def __init__(
        self,
        feeder: Feeder,
        gate: Gate,
        *,
        base_url: str,
        draft: DraftApi | None = None,
    ) -> None:
        self._intake = feeder.intake
        self._feeder = feeder
        self._gate = gate
        self._base_url = base_url
        self._draft = draft
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
            Endpoint(UPLOADS_OVERRIDE, self._all, is_stream=True),
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
        require_once(request)
        method = request.headers.get(routes.METHOD_OVERRIDE, request.method)
        handler = handlers.get(method)
        if handler is None:
            raise web.HTTPMethodNotAllowed(method, list(handlers))
        if method == "OPTIONS":
            return await handler(request)
        if request.headers.get(routes.TUS_RESUMABLE) != routes.TUS_VERSION:
            if self._draft is None or not self._draft.is_spoken(request):
                return _wrong_version()
            with self._gate.entered(request.remote):
                return await self._draft.answer(request, method)
        try:
            with self._gate.entered(request.remote):
                return await handler(request)
        except UploadBusyError:
            self._feeder.cut_off_if_silent(request.match_info.get("upload", ""))
            busy = UnavailableError("another request writes to this upload", retry_after_s=1.0)
            return _answer(HTTPStatus.LOCKED, busy)
        except UploadEndedError:
            ended = UnknownObjectError(
                "this upload has ended", hint="create it again with the same claim"
            )
            return _answer(HTTPStatus.GONE, ended)

    async def _options(self, _: web.Request) -> web.Response:
        fields = {
            routes.TUS_VERSION_FIELD: routes.TUS_VERSION,
            routes.TUS_EXTENSION_FIELD: routes.TUS_EXTENSIONS,
            routes.TUS_CHECKSUM_FIELD: ",".join(ALGORITHMS),
            routes.TUS_MAX_SIZE_FIELD: str(self._intake.largest),
        }
        if self._draft is not None:
            fields |= self._draft.limit_fields()
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=fields)

    async def _create(self, request: web.Request) -> web.Response:
        claim = parse_claim(request.headers.get(routes.METADATA))
        require_one_upload(request.headers, claim)
        length = routes.parse_offset(request.headers, routes.LENGTH)
        checksum = parse_checksum(request.headers.get(routes.CHECKSUM))
        if has_body(request) and not _is_tus_body(request):
            return _wrong_type()
        progress = await self._feeder.create(request, claim, length=length, checksum=checksum)
        location = upload_url(self._base_url, progress.id)
        return web.Response(
            status=HTTPStatus.CREATED, headers={"Location": location, **progress_fields(progress)}
        )

    async def _look(self, request: web.Request) -> web.Response:
        progress = await self._intake.look(request.match_info["upload"])
        claim = base64.b64encode(progress.claim).decode()
        headers = {
            routes.LENGTH: str(progress.size),
            routes.METADATA: f"{routes.CLAIM_KEY} {claim}",
            **progress_fields(progress),
        }
        return web.Response(status=HTTPStatus.OK, headers=headers)

    async def _append(self, request: web.Request) -> web.Response:
        if not _is_tus_body(request):
            return _wrong_type()
        upload = request.match_info["upload"]
        at = routes.parse_offset(request.headers)
        checksum = parse_checksum(request.headers.get(routes.CHECKSUM))
        await self._feeder.require_size(request, upload)
        progress = await self._feeder.feed(request, upload, at=at, checksum=checksum)
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=progress_fields(progress))

    async def _terminate(self, request: web.Request) -> web.Response:
        await self._intake.terminate(request.match_info["upload"])
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _receipt(self, request: web.Request) -> web.Response:
        text = await self._intake.receipt(request.match_info["upload"])
        return web.Response(body=text, headers={"Content-Type": media.TEXT, "Cache-Control": NEVER})


async def add_upload_fields(request: web.Request, response: web.StreamResponse) -> None:
    """Say the protocol's version in every answer about uploads, problems included."""
    said = request.get(SAID)
    if said is not None:
        response.headers.update(said)
        exposed = response.headers["Access-Control-Expose-Headers"]
        response.headers["Access-Control-Expose-Headers"] = f"{exposed}, {', '.join(SAID_FIELDS)}"
    elif request.path.startswith(routes.UPLOAD_CREATION.template):
        response.headers[routes.TUS_RESUMABLE] = routes.TUS_VERSION


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
