"""``bistro doctor``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from bistro.clock import SystemClock
from bistro.net.session import Session, Timeouts
from bistro.wire.document import Json
from bistro_client.cli.options import Frame, allow_http, ca_file, framed
from bistro_client.doctor import Check, Health, examine_destination, examine_home
from bistro_client.wording import say

_STYLES = {
    Health.GOOD: "green",
    Health.WARNING: "yellow",
    Health.BAD: "bold red",
    Health.SKIPPED: "dim",
}
_TIMEOUTS = Timeouts(total_s=15.0, connect_s=8.0, read_s=15.0)


@click.command("doctor")
@click.option("--to", "url", metavar="URL", help="Look at this destination and its relays, too.")
@allow_http
@ca_file
@framed
def command(frame: Frame, *, url: str | None, allow_http: bool, ca_file: Path | None) -> None:
    """Look at network, TLS, clock, disk and keys, and say what to do about each.

    \b
    Examples:
      bistro doctor
      bistro doctor --to https://permits.example

    Exit code 0 if nothing is bad, else that of the first thing that is.
    """  # noqa: D301 - click reads the backspace
    checks = list(examine_home(frame.home))
    if url is None:
        checks.append(
            Check("network", Health.SKIPPED, say("doctor.not-looked-at"), "give --to URL")
        )
    else:
        checks += asyncio.run(_examine(frame, url, allow_http=allow_http, ca_file=ca_file))
    found: list[Json] = [
        {"name": one.name, "health": one.health.value, "text": one.text, "hint": one.hint}
        for one in checks
    ]
    frame.output.result({"checks": found}, None)
    for one in checks:
        frame.output.line(f"{one.health.value:8} {one.name}: {one.text}", _STYLES[one.health])
        if one.hint:
            frame.output.line(say("doctor.next", hint=one.hint))
    sys.exit(next((one.exit_code for one in checks if one.health is Health.BAD), 0))


async def _examine(
    frame: Frame, url: str, *, allow_http: bool, ca_file: Path | None
) -> list[Check]:
    async with Session(
        allow_http=allow_http, ca_path=ca_file, timeouts=_TIMEOUTS, use_proxies=True
    ) as session:
        return await examine_destination(frame.home, session, SystemClock(), url.rstrip("/"))
