"""Logs: JSON or text, and nothing in them that is not in the catalogue."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from bistro.daemon import logs


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:], logging.root.level = handlers, level


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_event_level_time_and_part() -> None:
    """Where standard error is no terminal, machines read the log."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get_logger("sequencer").info("batch_written", batch_count=3)
    (line,) = written(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "batch_written",
        "level": "info",
        "part": "sequencer",
        "batch_count": 3,
    }


def test_unknown_fields_and_objects_are_refused_by_name() -> None:
    """A key passed along by mistake does not reach the log, and nobody crashes."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get_logger("http").warning(
        "request_failed", seed="hunter2", message=b"raw", reason="AGE-SECRET-KEY-1ABC", status=503
    )
    (line,) = written(stream)
    assert line["fields_refused"] == ["message", "reason", "seed"]
    assert line["status"] == 503
    assert not any(secret in stream.getvalue() for secret in ("hunter2", "raw", "SECRET"))


def test_lines_below_the_level_are_not_written() -> None:
    """An operator chooses how much there is."""
    stream = io.StringIO()
    logs.configure(stream=stream, level="warning")
    logs.get_logger("http").info("request_answered")
    assert stream.getvalue() == ""


def test_the_console_form_is_readable_text() -> None:
    """People at a terminal get words."""
    stream = io.StringIO()
    logs.configure(output_format="console", stream=stream)
    logs.get_logger("http").info("listening_started", port=8441)
    assert "listening_started" in stream.getvalue()
    assert "8441" in stream.getvalue()


def test_libraries_write_their_template_without_arguments() -> None:
    """Addresses and paths that a library formats in stay out of the log."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("aiohttp.server").error("Error handling request from %s", "192.0.2.7")
    logging.getLogger("aiohttp.server").info("chatter")
    (line,) = written(stream)
    assert line["event"] == "library_warned"
    assert line["message"] == "Error handling request from %s"
    assert line["logger"] == "aiohttp.server"


def test_a_traceback_of_a_library_is_kept() -> None:
    """A bug in a handler can be found."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    try:
        {"here": 1}["gone"]
    except KeyError:
        logging.getLogger("aiohttp.server").exception("Unhandled exception")
    (line,) = written(stream)
    assert "KeyError" in line["exception"]
