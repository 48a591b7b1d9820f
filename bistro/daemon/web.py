"""The frame around every HTTP handler: request ids, limits, problem documents, CORS, probes.

A request passes ``_identify`` (id, metrics, one log line), then ``_guard`` (preflight, time
limit, errors become problem documents), then its handler. Header fields that every answer
carries are set when the answer is prepared, so that streamed ones have them too.

A handler that meets ``StorageError`` answers 500 and raises the ``Alarm``: the HTTP part then
stops the daemon, since nothing may be promised over a store that has failed.

Source: docs/spec/api.md; docs/spec/errors.md; Fetch standard, CORS protocol.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NoReturn

import structlog
from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler
from aiohttp.web_urldispatcher import MatchInfoError
from prometheus_client import CollectorRegistry, Counter

from bistro.api import media, problems, routes
from bistro.daemon import logs, metrics
from bistro.daemon.bodies import UNFINISHED
from bistro.daemon.metrics import HttpMetrics
from bistro.daemon.quick import QuickEndpoint
from bistro.daemon.unfinished import DEFAULT_LIMIT, Unfinished
from bistro.errors import (
    BistroError,
    FormatError,
    LimitExceededError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
)

_FORGOTTEN_LIMIT = 65_536
_PREFLIGHT_AGE_S = 86_400
_UNMATCHED = "unmatched"
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

_log = logs.get_logger("http")


class Alarm:
    """Carries the one error after which the daemon must stop from a handler to the HTTP part."""

    def __init__(self) -> None:
        self._raised = asyncio.Event()
        self._error: StorageError | None = None

    def sound(self, error: StorageError) -> None:
        """Stop the daemon with ``error``; the first one counts."""
        if self._error is None:
            self._error = error
        self._raised.set()

    async def wait(self) -> NoReturn:
        """Wait until it sounds, then raise the error."""
        await self._raised.wait()
        raise self._error or StorageError("the alarm sounded without an error")


@dataclass(frozen=True)
class Endpoint:
    """A route and what answers it.

    Attributes:
        route: Its name labels metrics and logs.
        handler: Decodes, calls one service method, encodes.
        is_stream: Bounded by idle time instead of a total: uploads, batches, long polls.
    """

    route: routes.Route
    handler: Handler
    is_stream: bool = False


ALARM = web.AppKey("alarm", Alarm)

_METRICS = web.AppKey("metrics", HttpMetrics)
_TIMEOUT_S = web.AppKey("timeout_s", float)
_ENDPOINTS = web.AppKey("endpoints", dict[web.AbstractRoute, Endpoint])
_ID = web.RequestKey("request_id", str)
_PREPARED = web.RequestKey("prepared", web.StreamResponse)

ReadinessCheck = Callable[[], Awaitable[None]]


def new_app(
    endpoints: Iterable[Endpoint],
    *,
    registry: CollectorRegistry,
    is_ready: ReadinessCheck,
    request_timeout_s: float = 30.0,
    unfinished_limit: int = DEFAULT_LIMIT,
) -> web.Application:
    """An app that answers ``endpoints`` and the probes ``/healthz``, ``/readyz``, ``/metrics``.

    Args:
        endpoints: What this daemon answers.
        registry: Where the app's metrics live, also those declared by the caller.
        is_ready: Raises the ``BistroError`` for which this daemon cannot serve now.
        request_timeout_s: Total time of a request that is no stream.
        unfinished_limit: Bytes that all requests may hold together that are not whole yet.
    """
    app = _assemble((*endpoints, *_probes(registry, is_ready)))
    app[ALARM] = Alarm()
    app[UNFINISHED] = Unfinished(unfinished_limit)
    app[_METRICS] = HttpMetrics.register(registry)
    app[_TIMEOUT_S] = request_timeout_s
    return app


def side_app(app: web.Application, endpoints: Iterable[Endpoint]) -> web.Application:
    """An app for another port that answers ``endpoints`` only, no probes.

    It counts with ``app``, has its limits, and stops the daemon by the same alarm.
    """
    side = _assemble(endpoints)
    side[ALARM], side[UNFINISHED] = app[ALARM], app[UNFINISHED]
    side[_METRICS], side[_TIMEOUT_S] = app[_METRICS], app[_TIMEOUT_S]
    return side


def _assemble(endpoints: Iterable[Endpoint]) -> web.Application:
    # Bodies are read through ``bistro.daemon.bodies``: aiohttp's own limit, set here only for
    # whoever forgets, does not hold for a body that is streamed.
    app = web.Application(middlewares=[_identify, _guard], client_max_size=_FORGOTTEN_LIMIT)
    known: dict[web.AbstractRoute, Endpoint] = {}
    for endpoint in endpoints:
        route = endpoint.route
        methods = (route.method, "HEAD") if route.method == "GET" else (route.method,)
        for method in methods:
            added = app.router.add_route(
                method, route.template, endpoint.handler, expect_handler=_invite
            )
            known[added] = endpoint
    app[_ENDPOINTS] = known
    app.on_response_prepare.append(_complete_headers)
    _invite_nowhere(app.router)
    return app


def observer(
    app: web.Application,
) -> Callable[[QuickEndpoint, float, BistroError | int, int], None]:
    """Counts and logs quick answers as ``app`` does its own."""
    measures = app[_METRICS]
    answered: dict[tuple[str, int], Counter] = {}  # looking one up costs more than counting

    def observe(
        endpoint: QuickEndpoint, took_s: float, result: BistroError | int, count: int
    ) -> None:
        method, name = endpoint.route.method, endpoint.route.name
        status = result if isinstance(result, int) else result.http_status
        alike = answered.get((name, status))
        if alike is None:
            alike = answered[name, status] = measures.requests.labels(method, name, str(status))
        alike.inc(count)
        measures.durations.observe(name, took_s, count)
        if isinstance(result, BistroError):
            measures.errors.labels(name, result.code).inc(count)
            _log_error(name, result)

    return observe


def counter(app: web.Application, route: routes.Route) -> Callable[[int, float], None]:
    """Counts answers to a route that were given without ``app``: status, and seconds it took."""
    measures = app[_METRICS]
    counters: dict[int, Counter] = {}

    def count(status: int, took_s: float) -> None:
        if status not in counters:
            counters[status] = measures.requests.labels(route.method, route.name, str(status))
        counters[status].inc()
        measures.durations.observe(route.name, took_s, 1)

    return count


def request_id(request: web.Request) -> str:
    """The id of this request: random, in its log lines and in its answer."""
    return request[_ID]


def problem_response(error: BistroError) -> web.Response:
    """The problem document of ``error``, with ``Retry-After`` where it says when to return."""
    return web.Response(
        status=error.http_status,
        body=problems.encode_problem(error),
        headers={"Content-Type": media.PROBLEM, **problems.problem_headers(error)},
    )


@web.middleware
async def _identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id; count and log its answer."""
    request[_ID] = secrets.token_hex(8)
    endpoint = request.app[_ENDPOINTS].get(request.match_info.route)
    name = _UNMATCHED if endpoint is None else endpoint.route.name
    method = request.method if request.method in _METHODS else "other"
    measures = request.app[_METRICS]
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    status = HTTPStatus.INTERNAL_SERVER_ERROR.value
    with (
        structlog.contextvars.bound_contextvars(request_id=request[_ID]),
        measures.open_requests.track_inprogress(),
    ):
        try:
            response = await handler(request)
            status = response.status
        finally:
            took_s = loop.time() - started_s
            measures.requests.labels(method, name, str(status)).inc()
            measures.durations.observe(name, took_s)
            _log.debug(
                "request_answered",
                method=method,
                route=name,
                status=status,
                duration_ms=round(took_s * 1_000, 3),
            )
    return response


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer preflights, bound the time, and turn errors into problem documents."""
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return _preflight()
    endpoint = request.app[_ENDPOINTS].get(request.match_info.route)
    is_bounded = endpoint is None or not endpoint.is_stream
    try:
        async with asyncio.timeout(request.app[_TIMEOUT_S] if is_bounded else None):
            return await handler(request)
    except BistroError as error:
        return _answer_error(request, error, endpoint)
    except TimeoutError:
        # Ours: what handlers call translates its own. The work may be done all the same,
        # which is why every write can be repeated.
        late = UnavailableError("the request took too long", hint="send the same request again")
        return _answer_error(request, late, endpoint)
    except web.HTTPException as refusal:
        return _answer_refusal(refusal)


def _answer_error(
    request: web.Request, error: BistroError, endpoint: Endpoint | None
) -> web.StreamResponse:
    name = _UNMATCHED if endpoint is None else endpoint.route.name
    request.app[_METRICS].errors.labels(name, error.code).inc()
    _log_error(name, error)
    if isinstance(error, StorageError):
        request.app[ALARM].sound(error)
    started: web.StreamResponse | None = request.get(_PREPARED)
    if started is None:
        return problem_response(error)
    # The head of another answer is out: a reader must see a broken answer, not a short one.
    if request.transport is not None:
        request.transport.abort()
    return started


def _log_error(name: str, error: BistroError) -> None:
    is_ours = error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR
    # Whoever asks for a status before there is one is told so; that is nothing to report.
    level = logging.DEBUG if isinstance(error, UnknownObjectError) else logging.INFO
    _log.log(
        logging.WARNING if is_ours else level,
        "request_failed",
        route=name,
        error_code=error.code,
        message=error.message,
    )


def _answer_refusal(refusal: web.HTTPException) -> web.Response:
    """Give aiohttp's own refusals (no such route or method) the form of all others."""
    if refusal.status < HTTPStatus.BAD_REQUEST:
        raise refusal
    error: BistroError
    match refusal.status:
        case HTTPStatus.NOT_FOUND:
            error = UnknownObjectError("there is no such address here")
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            error = LimitExceededError("the request is larger than this address takes")
        case _:
            error = FormatError(f"the request was not understood: {refusal.reason}")
    response = problem_response(error)
    response.set_status(refusal.status)
    if "Allow" in refusal.headers:
        response.headers["Allow"] = refusal.headers["Allow"]
    return response


def _preflight() -> web.Response:
    return web.Response(
        status=HTTPStatus.NO_CONTENT,
        headers={
            "Access-Control-Allow-Methods": ", ".join(sorted(_METHODS)),
            # A wildcard would leave out Authorization only, which nothing here reads.
            "Access-Control-Allow-Headers": "*",
            "Access-Control-Max-Age": str(_PREFLIGHT_AGE_S),
        },
    )


async def _invite(request: web.Request) -> web.Response | None:
    """Ask a client for its body that waits to be asked; None: the handler's answer follows.

    Ours, because the library's repeats what was expected, which need not be text.
    """
    if request.headers["Expect"].lower() != "100-continue":
        response = problem_response(FormatError("header Expect: expected 100-continue"))
        response.set_status(HTTPStatus.EXPECTATION_FAILED)
        return response
    if request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The answer itself has not begun.
        request.writer.output_size = 0
    return None


class _Nowhere(MatchInfoError):  # noqa: N818 - no exception, in spite of its name
    """Where there is no such address or method: the library's, but for ``Expect``."""

    @property
    def expect_handler(self) -> Callable[[web.Request], Awaitable[web.Response | None]]:
        return _invite


def _invite_nowhere(router: web.UrlDispatcher) -> None:
    """Answer ``Expect`` on addresses that have no route of ours as on all others."""
    find = router.resolve

    async def resolve(request: web.Request) -> web.UrlMappingMatchInfo:
        found = await find(request)
        return found if found.http_exception is None else _Nowhere(found.http_exception)

    router.resolve = resolve  # type: ignore[method-assign]  # the library makes its own


async def _complete_headers(request: web.Request, response: web.StreamResponse) -> None:
    request[_PREPARED] = response
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = ", ".join(routes.EXPOSED_FIELDS)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "bistro"
    # Absent where a request was refused before it reached the first middleware.
    if found := request.get(_ID):
        response.headers[routes.REQUEST_ID] = found


def _probes(registry: CollectorRegistry, is_ready: ReadinessCheck) -> list[Endpoint]:
    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readiness(_: web.Request) -> web.Response:
        await is_ready()
        return web.Response(text="ok\n")

    async def measures(_: web.Request) -> web.Response:
        body = metrics.render(registry)
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    return [
        Endpoint(routes.HEALTH, health),
        Endpoint(routes.READINESS, readiness),
        Endpoint(routes.METRICS, measures),
    ]
