"""``bistro forecast``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

import click
from rich.filesize import decimal

from bistro.clock import SystemClock
from bistro.errors import RefusedError
from bistro.instant import UnixMillis, format_duration, format_rfc3339
from bistro.net.session import Session
from bistro.wire.document import Json
from bistro_client.cli.bars import Bars
from bistro_client.cli.options import (
    Frame,
    allow_http,
    ca_file,
    destination,
    framed,
    parse_vkeys,
    read_rate,
    which_call,
)
from bistro_client.forecasting import Forecast, forecast
from bistro_client.times import show
from bistro_client.wording import say

USUAL_LINES: Final = (1_000_000, 10_000_000, 100_000_000)


@click.command("forecast")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…")
@destination
@which_call
@click.option(
    "--line",
    callback=read_rate,
    metavar="RATE",
    help="Your upstream line, such as 1M or 500k bits a second.",
)
@click.option("--trust", metavar="VKEY", help="The destination's terms key, if you know it.")
@allow_http
@ca_file
@framed
def command(  # noqa: PLR0913 - one argument for each option
    frame: Frame,
    *,
    paths: tuple[Path, ...],
    url: str,
    call: str | None,
    line: int | None,
    trust: str | None,
    allow_http: bool,
    ca_file: Path | None,
) -> None:
    """Say how long a submission will take, until when to start it, and which relays there are.

    Checks your files against the call's limits, asks all relays how they are, and seals a sample
    on your disk to see how fast it is. Nothing is sent, pinned or kept.

    \b
    Examples:
      bistro forecast report.pdf annexes/ --to https://permits.example --call spring
      bistro forecast bid/ --to https://tenders.example --line 1M --json

    Exit code 3 if it is too late to be on time, or files are beyond the call's limits.
    """  # noqa: D301 - click reads the backspace
    clock = SystemClock()

    async def work() -> Forecast:
        async with Session(allow_http=allow_http, ca_path=ca_file, use_proxies=True) as session:
            return await forecast(
                frame.home,
                session,
                clock,
                Bars(frame.output),
                paths=paths,
                url=url,
                call=call,
                trust=parse_vkeys((trust,))[0] if trust else None,
            )

    found = asyncio.run(work())
    frame.output.result({"forecast": _document(found, line)}, None)
    for text in _lines(found, line):
        frame.output.line(text)
    _conclude(frame, found)


def _conclude(frame: Frame, found: Forecast) -> None:
    at = show(found.latest_start, found.terms.time_zone)
    if found.is_in_time:
        frame.output.line(say("forecast.you-can-be", at=at), "bold green")
        return
    if frame.output.as_json:
        sys.exit(RefusedError.exit_code)
    raise RefusedError(
        say("forecast.too-late-be", at=at),
        hint=say("forecast.you-are-not"),
    )


def _document(found: Forecast, line: int | None) -> dict[str, Json]:
    terms = found.terms
    lines = USUAL_LINES if line is None else (line,)
    return {
        "call": str(terms.origin),
        "closes": format_rfc3339(terms.closes),
        "stage_by": format_rfc3339(terms.stage_by),
        "clock_offset_ms": found.offset_ms,
        "files": found.file_count,
        "bytes": found.size,
        "sealing_ms": found.sealing_ms,
        "latest_start": format_rfc3339(found.latest_start),
        "is_in_time": found.is_in_time,
        "disk_needed_bytes": found.disk_size,
        "disk_free_bytes": found.free_size,
        "needed_bytes": found.needed_size,
        "least_line_bits": found.least_line_bits,
        "staging": [
            {
                "line_bits": bits,
                "ms": found.staging_ms(bits),
                "is_in_time": found.is_staged_in_time(bits),
            }
            for bits in lines
        ],
        "relays": [
            {
                "name": one.probe.name,
                "operator": one.probe.operator,
                "latency_ms": None if one.problem else int(one.probe.latency_ms or 0),
                "load_percent": round(one.probe.load * 100),
                "problem": one.problem or None,
            }
            for one in found.relays
        ],
    }


def _lines(found: Forecast, line: int | None) -> list[str]:
    terms, zone = found.terms, found.terms.time_zone
    left_ms = max(0, terms.closes - found.now)
    texts = [
        (
            f"{terms.origin} ({terms.title}) closes {show(terms.closes, zone)}, "
            f"in {format_duration(left_ms)}"
        ),
        _clock(found.offset_ms),
        (
            say(
                "forecast.files-with-allowed",
                file_count=found.file_count,
                size=decimal(found.size),
                files_limit=terms.files_limit,
                envelope_limit=decimal(terms.envelope_limit),
            )
        ),
        say("forecast.sealing-about-on", sealing_ms=format_duration(found.sealing_ms)),
        say(
            "forecast.disk-until-they",
            disk_size=decimal(found.disk_size),
            free_size=decimal(found.free_size),
        )
        + ("" if found.disk_size < found.free_size else ": NOT ENOUGH"),
        (
            say(
                "forecast.staging-must-reach",
                needed_size=decimal(found.needed_size),
                k=terms.spread.k,
                stage_by=show(terms.stage_by, zone),
                least_line_bits=_rate(found.least_line_bits),
            )
        ),
    ]
    texts += [_staging(found, bits) for bits in (USUAL_LINES if line is None else (line,))]
    texts.append("relays:")
    texts += [
        f"  {one.probe.name}: "
        + (
            say("forecast.left-out", problem=one.problem)
            if one.problem
            else say(
                "forecast.ms-away-load", latency_ms=one.probe.latency_ms or 0, load=one.probe.load
            )
        )
        for one in found.relays
    ]
    return texts


def _clock(offset_ms: int | None) -> str:
    if offset_ms is None:
        return say("forecast.clock-destination-does")
    side = "behind" if offset_ms > 0 else say("forecast.ahead")
    return say(
        "forecast.clock-yours-destination", offset_ms=format_duration(abs(offset_ms)), side=side
    )


def _staging(found: Forecast, bits: int) -> str:
    done = UnixMillis(found.now + found.sealing_ms + found.staging_ms(bits))
    verdict = say("forecast.in-time") if found.is_staged_in_time(bits) else "TOO LATE"
    return (
        f"  at {_rate(bits)}: {format_duration(found.staging_ms(bits))}, done "
        f"{show(done, found.terms.time_zone)}: {verdict}"
    )


def _rate(bits: int) -> str:
    for unit, size in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if bits >= size:
            return f"{bits / size:.3g} {unit}"
    return f"{bits} bit/s"
