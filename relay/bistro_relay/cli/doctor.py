"""``doctor``: looks at everything that could keep a relay from serving, and says what to do.

Source: docs/spec/commands.md, bistro-relay.
"""

from __future__ import annotations

import asyncio
import stat
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import click
from cryptography import x509

from bistro.clock import SystemClock
from bistro.daemon.listening import server_tls
from bistro.errors import BistroError, SettingsError, UnavailableError, VerificationError
from bistro.net.relay_client import RelayClient
from bistro.net.session import Session
from bistro.storage.durable import read_file, write_atomically
from bistro.wire.document import encode_json
from bistro_relay.app.serving import load_key
from bistro_relay.cli.asking import ask_running
from bistro_relay.cli.reporting import directory_option
from bistro_relay.cli.status import format_size
from bistro_relay.http.public import CONTROL_STATUS
from bistro_relay.services import examination
from bistro_relay.services.room import free_disk_bytes
from bistro_relay.settings import Settings, load_settings

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_SOON_MS: Final = 14 * 86_400_000
_MAX_CERTIFICATE_SIZE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look showed; ``error`` where something is wrong."""

    part: str
    text: str
    error: BistroError | None = None


@click.command()
@directory_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def doctor(directory: Path, *, as_json: bool) -> None:
    """Check network, TLS, clock, disk, keys and database."""
    findings = asyncio.run(examine(load_settings(directory)))
    if as_json:
        click.echo(encode_json({"findings": [_describe(one) for one in findings]}).decode())
    else:
        for one in findings:
            click.echo(f"{'ok  ' if one.error is None else 'FAIL'}  {one.part}: {one.text}")
            if one.error is not None and one.error.hint:
                click.echo(f"      next: {one.error.hint}")
    sys.exit(next((one.error.exit_code for one in findings if one.error is not None), 0))


def _describe(finding: Finding) -> dict[str, str | None]:
    error = finding.error
    return {
        "part": finding.part,
        "message": finding.text,
        "code": None if error is None else error.code,
        "hint": None if error is None else error.hint,
    }


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything; nothing is changed, and one failure does not hide another."""
    looks: dict[str, Callable[[], Awaitable[str]]] = {
        "key": lambda: _key(settings),
        "clock": lambda: _clock(settings),
        "disk": lambda: _disk(settings),
        "tls": lambda: _tls(settings),
        "network": lambda: _network(settings),
    }
    findings = [await _look(part, look) for part, look in looks.items()]
    if await ask_running(settings, CONTROL_STATUS.template) is not None:
        findings.append(Finding("database", "in use by the running relay, which answers"))
    else:
        folder, key = settings.relay.data_path, load_key(settings)
        findings.append(await _look("database", lambda: examination.database(folder)))
        findings += [
            await _look("ledger", partial(examination.ledger, folder, key, origin))
            for origin in examination.ledgers(folder)
        ]
    return findings + await _destinations(settings)


async def _destinations(settings: Settings) -> list[Finding]:
    terms = settings.terms
    allowed = examination.destinations(settings.relay.data_path)
    if not allowed:
        return [Finding("destination", "none is allowed yet")]
    async with Session(allow_http=terms.allow_http, ca_path=terms.ca_path) as session:
        return [
            await _look("destination", partial(examination.destination, session, one))
            for one in allowed
        ]


async def _look(part: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(part, await look())
    except BistroError as exc:
        return Finding(part, exc.message, exc)


async def _key(settings: Settings) -> str:
    key = load_key(settings)
    path = settings.relay.key_path
    if path.stat().st_mode & _OPEN_TO_OTHERS:
        raise SettingsError(f"{path} can be read by others", hint=f"chmod 600 {path}")
    return f"{key.verifier.format()}, fingerprint {key.verifier.fingerprint()}"


async def _clock(settings: Settings) -> str:
    bound = SystemClock(settings.clock.assumed_error_ms).error_bound_ms()
    limit = settings.clock.error_limit_ms
    if bound is None or bound > limit:
        found = "is unknown" if bound is None else f"may be {bound} ms"
        raise UnavailableError(
            f"its error {found}, expected at most {limit} ms: no receipt can be given",
            hint="run an NTP client such as chrony, or state clock.assumed_error_ms",
        )
    return f"its error is at most {bound} ms; receipts are given up to {limit} ms"


async def _disk(settings: Settings) -> str:
    folder, reserve = settings.relay.data_path, settings.limits.reserve_bytes
    probe = folder / ".doctor"
    write_atomically(probe, b"doctor")
    probe.unlink()
    free = free_disk_bytes(folder)
    if free <= reserve:
        raise UnavailableError(
            f"{format_size(free)} free, of which {format_size(reserve)} are kept back: "
            "no fragment is taken",
            hint="make room, or lower limits.reserve_bytes",
        )
    return f"{format_size(free - reserve)} free for fragments in {folder.resolve()}"


async def _tls(settings: Settings) -> str:
    path = settings.http.certificate_path
    if path is None:
        return "none of its own: plain HTTP, for loopback or behind a reverse proxy"
    server_tls(settings.http)
    data = read_file(path, max_size=_MAX_CERTIFICATE_SIZE) or b""
    ends = x509.load_pem_x509_certificates(data)[0].not_valid_after_utc
    now = SystemClock().now()
    left_ms = (ends - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000 - now
    if left_ms < _SOON_MS:
        raise SettingsError(
            f"certificate {path} ends at {ends.isoformat()}", hint="renew it, then start again"
        )
    return f"certificate {path} is good until {ends.isoformat()}"


async def _network(settings: Settings) -> str:
    url = settings.http.base_url
    if await ask_running(settings, CONTROL_STATUS.template) is None:
        return f"not looked at: the relay does not serve now; others reach it at {url}"
    async with Session(allow_http=True, ca_path=settings.terms.ca_path) as session:
        found = await RelayClient(session, url).fetch_discovery()
    own = load_key(settings).verifier
    if found.vkey != own:
        raise VerificationError(
            f"at {url} answers {found.name} with another key than ours",
            hint="correct http.base_url, or the reverse proxy",
        )
    return f"this relay answers at {url}"
