"""Structured logs: constant past-tense events with fields from one catalogue.

A field that is not in ``FIELDS`` is not written: its name is listed in ``fields_refused``
instead. So no key, file name or address reaches a log because somebody passed an object
along. Refusing does not raise, because a log line must never come between a durable step
and the answer that follows it; the architecture test finds such a call before it is merged.

Source: docs/reference/events.md.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

Format = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error"]

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "backlog_count": "entries or requests that wait",
        "batch_count": "entries of one batch",
        "bound_ms": "error bound of the clock",
        "bytes_per_s": "rate of a transfer",
        "call": "call id",
        "collected_count": "submissions collected",
        "commitment": "commitment, 64 hex digits",
        "count": "how many of what the event names",
        "destination": "server name",
        "duration_ms": "how long the step took",
        "error_code": "protocol error code",
        "fields_refused": "names of fields that are not in this catalogue",
        "fragment_index": "index of a fragment within its envelope",
        "hint": "what the reader can do next",
        "hold_until": "time until which a fragment is held, Unix milliseconds",
        "host": "host name or address this daemon listens on",
        "index": "index of an entry in its ledger",
        "lapsed_count": "submissions that lapsed",
        "ledger": "origin of a ledger",
        "limit": "the limit that was met",
        "logger": "name of the library that wrote the line",
        "message": "what an error said: never content, names of files or keys",
        "method": "HTTP method",
        "missing_count": "parts that are missing",
        "name": "own name of this server or relay",
        "offset": "offset in bytes",
        "opened_count": "submissions opened",
        "operator": "operator of a relay",
        "origin": "call as <server>/<call>",
        "outcome": "outcome of a submission",
        "part": "part of the daemon, such as http or sequencer",
        "parts": "names of the parts",
        "pause_s": "pause before the next attempt",
        "pending_count": "submissions that are not yet done",
        "pid": "process id",
        "port": "TCP port",
        "reason": "code of a refusal or of a decision",
        "relay": "relay name",
        "released_count": "fragments released",
        "request_id": "id of one HTTP request, also in its answer",
        "route": "route template, never the path itself",
        "size": "bytes",
        "staged_count": "submissions staged",
        "state": "state that was reached",
        "status": "HTTP status",
        "terms_hash": "hash of a terms version, 64 hex digits",
        "torn_size": "bytes cut off at the end of a file on recovery",
        "tree_size": "entries of a ledger",
        "upload": "id of an upload, random",
        "url": "own base URL, or that of a relay or server",
        "version": "version of this software",
    }
)
"""Every field a log line may carry, and what it holds; documented in docs/reference/events.md."""

_OWN_FIELDS = frozenset({"event", "level", "timestamp", "exception", "exc_info"})
_SECRET_MARKS = ("PRIVATE+KEY+", "AGE-SECRET-KEY-", "PRIVATE KEY-----")
_PLAIN = (str, int, float, bool, type(None))


def get_logger(part: str) -> FilteringBoundLogger:
    """The logger of one part or module; ``part`` becomes a field of every line."""
    return cast("FilteringBoundLogger", structlog.get_logger(part=part))


def configure(
    *, output_format: Format = "auto", level: Level = "info", stream: TextIO | None = None
) -> None:
    """Send all logs, also those of libraries, to ``stream`` (standard error by default).

    Args:
        output_format: ``auto`` writes text on a terminal and JSON lines elsewhere.
        level: The lowest level that is written.
        stream: Where to write.
    """
    target = sys.stderr if stream is None else stream
    as_text = output_format == "console" or (output_format == "auto" and target.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=target.isatty())]
        if as_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, refuse_unknown_fields, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        # A test, or a program that reads its settings first, may configure later.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_foreign],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                refuse_unknown_fields,
                *ending,
            ],
        )
    )
    # Libraries speak only when something is wrong: their chatter may carry paths and addresses.
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


def refuse_unknown_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Keep what the catalogue knows and holds plain values; name the rest in ``fields_refused``."""
    kept: dict[str, Any] = {}
    refused: list[str] = []
    for key, value in event.items():
        if key in _OWN_FIELDS or (key in FIELDS and _is_writable(value)):
            kept[key] = value
        else:
            refused.append(key)
    if refused:
        kept["fields_refused"] = sorted(refused)
    return kept


def _is_writable(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_writable(item) for item in value)
    if isinstance(value, str):
        return not any(mark in value for mark in _SECRET_MARKS)
    return isinstance(value, _PLAIN)


def _name_foreign(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Turn a library's free text into the event ``library_warned`` with its text as a field.

    The text is the template without its arguments, which may be addresses and paths.
    """
    record = cast("logging.LogRecord", event["_record"])
    event["message"] = str(record.msg)
    event["event"] = "library_warned"
    event["logger"] = record.name
    return event
