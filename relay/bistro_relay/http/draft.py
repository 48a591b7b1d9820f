"""Uploads by the IETF draft of resumable uploads, interop versions 5 and 6, on tus's resources.

What differs from tus: the version is in a field of its own, completion is said aloud, answers
say 404 where tus says 410, and every answer about a living upload names its offset. What a
fragment is, and what is checked, does not differ.

Source: docs/spec/staging.md, the IETF draft; docs/decisions/0028-the-draft-beside-tus.md;
draft-ietf-httpbis-resumable-upload-03 and -05.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, web

from bistro.api import media, routes
from bistro.daemon.web import problem_response
from bistro.errors import (
    BistroError,
    FormatError,
    LimitExceededError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.wire.claim import Claim
from bistro_relay.http.feeding import Feeder
from bistro_relay.http.upload_fields import has_body, parse_claim, progress_fields, upload_url
from bistro_relay.services.busy import UploadBusyError, UploadEndedError
from bistro_relay.services.intake import Progress

DRAFT_05: Final = "6"
VERSIONS: Final = frozenset({"5", DRAFT_05})
"""Interop versions: of drafts 03 and 05, which clients that exist speak."""

SAID = web.RequestKey("said_in_draft", dict[str, str])
"""Header fields of the answer to a request in the draft, also where it is a problem."""

SAID_FIELDS: Final = (routes.COMPLETE, routes.UPLOAD_LIMIT)
"""Those that no answer in tus has: pages of other origins may read them, too."""

_CREATED = web.RequestKey("created_in_draft", str)
_BOOLEANS: Final = {"?0": False, "?1": True}
_NEVER_ASKED: Final = (routes.OFFSET, routes.COMPLETE)

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class DraftApi:
    """Answers requests in the draft.

    Args:
        feeder: Brings bodies to uploads.
        base_url: The relay's own; it stands before every ``Location``.
    """

    def __init__(self, feeder: Feeder, *, base_url: str) -> None:
        self._intake = feeder.intake
        self._feeder = feeder
        self._base_url = base_url
        self._handlers: Mapping[str, _Handler] = {
            "POST": self._create,
            "HEAD": self._look,
            "PATCH": self._append,
            "DELETE": self._terminate,
        }

    def is_spoken(self, request: web.Request) -> bool:
        """Whether a request speaks a version of the draft that is understood here."""
        return request.headers.get(routes.DRAFT_VERSION) in VERSIONS

    def limit_fields(self) -> dict[str, str]:
        """What an answer to OPTIONS adds."""
        return {routes.UPLOAD_LIMIT: f"max-size={self._intake.largest}"}

    async def answer(self, request: web.Request, method: str) -> web.Response:
        """Answer a request by the method that counts.

        Raises:
            BistroError: Refused; the fields of ``SAID`` belong to the answer.
        """
        request[SAID] = {}
        try:
            return await self._handlers[method](request)
        except UploadBusyError:
            self._feeder.cut_off_if_silent(request.match_info.get("upload", ""))
            busy = UnavailableError("another request writes to this upload", retry_after_s=1.0)
            response = problem_response(busy)
            response.set_status(HTTPStatus.LOCKED)
            return response
        except UploadEndedError as exc:
            raise UnknownObjectError(
                "this upload has ended", hint="create it again with the same claim"
            ) from exc
        except BistroError:
            await self._say_where(request)
            raise

    async def _say_where(self, request: web.Request) -> None:
        """Tell in a refusal where its upload stands, if it lives and nobody writes to it."""
        upload = request.match_info.get("upload") or request.get(_CREATED)
        if upload is None:
            return
        with suppress(UnknownObjectError, UploadBusyError, UploadEndedError):
            self._say(request, await self._intake.look(upload))

    async def _create(self, request: web.Request) -> web.Response:
        _refuse_fields(request, (routes.OFFSET,))
        claim = parse_claim(request.headers.get(routes.METADATA))
        size = Claim.decode(claim).descriptor.size
        length = size
        if routes.LENGTH in request.headers:
            length = routes.parse_offset(request.headers, routes.LENGTH)
        is_last = _is_last(request)
        if is_last is None:
            raise FormatError(f"header {routes.COMPLETE}: expected ?0 or ?1, found no such field")
        if is_last:
            _require_end(request, 0, size)

        async def announce(progress: Progress) -> None:
            request[_CREATED] = progress.id
            await _inform(request, upload_url(self._base_url, progress.id))

        progress = await self._feeder.create(request, claim, length=length, announce=announce)
        request[SAID]["Location"] = upload_url(self._base_url, progress.id)
        self._say(request, progress)
        if is_last:
            _require_complete(progress)
        return web.Response(status=HTTPStatus.CREATED)

    async def _look(self, request: web.Request) -> web.Response:
        length = (routes.LENGTH,) if _version(request) == DRAFT_05 else ()
        _refuse_fields(request, (*_NEVER_ASKED, *length))
        progress = await self._intake.look(request.match_info["upload"])
        self._say(request, progress)
        request[SAID][routes.LENGTH] = str(progress.size)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _append(self, request: web.Request) -> web.Response:
        upload = request.match_info["upload"]
        at = routes.parse_offset(request.headers)
        is_last = _is_last(request)
        if _version(request) == DRAFT_05 and not _is_draft_body(request):
            raise web.HTTPUnsupportedMediaType(reason=f"expected {media.DRAFT_BYTES}")
        await self._feeder.require_size(request, upload)
        if is_last:
            progress = await self._intake.look(upload)
            if at == progress.offset:
                _require_end(request, at, progress.size)
        try:
            progress = await self._feeder.feed(request, upload, at=at)
        except LimitExceededError as exc:
            # The draft's own status for bytes beyond the end.
            raise FormatError(exc.message, hint=exc.hint) from exc
        self._say(request, progress)
        if is_last:
            _require_complete(progress)
        return web.Response(status=HTTPStatus.CREATED)

    async def _terminate(self, request: web.Request) -> web.Response:
        _refuse_fields(request, _NEVER_ASKED)
        await self._intake.terminate(request.match_info["upload"])
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _say(self, request: web.Request, progress: Progress) -> None:
        request[SAID] |= progress_fields(progress)
        request[SAID][routes.COMPLETE] = "?0" if progress.receipt is None else "?1"
        request[SAID] |= self.limit_fields()


async def _inform(request: web.Request, location: str) -> None:
    """Tell the upload's address while its bytes come: 104, to a client of the same version."""
    if request.version < HttpVersion11:
        return
    head = (
        "HTTP/1.1 104 Upload Resumption Supported\r\n"
        f"{routes.DRAFT_VERSION}: {_version(request)}\r\nLocation: {location}\r\n\r\n"
    )
    await request.writer.write(head.encode())
    # As after 100: the answer itself has not begun.
    request.writer.output_size = 0


def _version(request: web.Request) -> str:
    return request.headers[routes.DRAFT_VERSION]


def _is_last(request: web.Request) -> bool | None:
    """Whether the request says that the upload ends with it; None where it says nothing."""
    found = request.headers.get(routes.COMPLETE)
    if found is None:
        return None
    if found not in _BOOLEANS:
        raise FormatError(f"header {routes.COMPLETE}: expected ?0 or ?1, found {found[:32]!a}")
    return _BOOLEANS[found]


def _is_draft_body(request: web.Request) -> bool:
    return media.essence(request.headers.get("Content-Type")) == media.DRAFT_BYTES


def _refuse_fields(request: web.Request, names: tuple[str, ...]) -> None:
    for name in names:
        if name in request.headers:
            raise FormatError(f"header {name}: expected no such field in this request")


def _require_end(request: web.Request, at: int, size: int) -> None:
    """Check an announced end before any byte is read."""
    length = request.content_length if has_body(request) else 0
    if length is not None and at + length != size:
        raise FormatError(
            f"header {routes.COMPLETE}: expected the upload to end at {size} bytes, "
            f"found an end at {at + length}",
            hint="send ?0 as long as bytes follow",
        )


def _require_complete(progress: Progress) -> None:
    if progress.offset != progress.size:
        raise FormatError(
            f"header {routes.COMPLETE}: expected the upload to end at {progress.size} bytes, "
            f"found an end at {progress.offset}",
            hint="send the rest from the offset on",
        )
