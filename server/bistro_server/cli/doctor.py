"""``bistro-server doctor``: would this server work, and if not, what is to be done.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import click
from cryptography import x509

from bistro.api import routes
from bistro.clock import Clock
from bistro.daemon.listening import bind_tcp, server_tls
from bistro.errors import SettingsError
from bistro.instant import parse_rfc3339
from bistro.wire.document import Json
from bistro_server.app import open_notary
from bistro_server.cli.running import (
    dir_option,
    json_option,
    load,
    print_json,
    run,
    shown,
    system_clock,
)
from bistro_server.services.authority import AuthorityFiles
from bistro_server.services.checkup import (
    Advice,
    Checkup,
    Finding,
    describe_anchors,
    describe_authority,
    found,
    require_private,
)
from bistro_server.services.folder import ServerFolder
from bistro_server.settings import ServerSettings

_SOON_MS: Final = timedelta(days=14) // timedelta(milliseconds=1)


@click.command()
@dir_option
@json_option
def doctor(folder: ServerFolder, *, as_json: bool) -> None:
    """Check network, TLS, clock, disk, keys, ledgers and anchors."""
    settings = load(folder)
    findings = run(_examine(folder, settings))
    failed = [finding.error for finding in findings if finding.error is not None]
    if as_json:
        print_json({"findings": [_document(finding) for finding in findings], "ok": not failed})
    else:
        for finding in findings:
            _show(finding)
    if failed:
        sys.exit(failed[0].exit_code)


async def _examine(folder: ServerFolder, settings: ServerSettings) -> list[Finding]:
    clock = system_clock(settings)
    checkup = Checkup(
        folder=folder,
        name=settings.name,
        clock=clock,
        error_limit_ms=settings.clock.error_limit_ms,
        min_free_bytes=settings.disk.min_free_bytes,
    )

    async def network() -> str:
        return _check_network(settings, is_served=checkup.is_served())

    async def tls() -> str:
        return _check_tls(settings, clock)

    network_findings = [await found("network", network), await found("TLS", tls)]

    async def time_stamps() -> str | Advice:
        return _check_time_stamps(folder, settings, clock)

    async def anchors() -> str | Advice:
        async with AsyncExitStack() as stack:
            notary = await open_notary(stack, settings.anchoring, clock)
            return await describe_anchors(folder, notary, clock)

    own_findings = await checkup.run()
    return [
        *network_findings,
        *own_findings,
        await found("RFC 3161", time_stamps),
        await found("anchors", anchors),
    ]


def _check_network(settings: ServerSettings, *, is_served: bool) -> str:
    place = f"{settings.http.host}:{settings.http.port}"
    if is_served:
        return f"a running serve has {place}; others reach it as {settings.http.base_url}"
    bind_tcp(host=settings.http.host, port=settings.http.port).close()
    return f"{place} is free; others will reach it as {settings.http.base_url}"


def _check_tls(settings: ServerSettings, clock: Clock) -> str:
    is_https = settings.http.base_url.startswith("https://")
    server_tls(settings.http)
    if settings.http.certificate_path is None:
        where = "expected at a reverse proxy" if is_https else "none: plain HTTP"
        return f"no certificate here; TLS {where}"
    certificate = x509.load_pem_x509_certificate(settings.http.certificate_path.read_bytes())
    until = parse_rfc3339(certificate.not_valid_after_utc.isoformat())
    if until - clock.now() < _SOON_MS:
        raise SettingsError(f"the certificate is valid until {shown(until)} only", hint="renew it")
    return f"certificate valid until {shown(until)}"


def _check_time_stamps(
    folder: ServerFolder, settings: ServerSettings, clock: Clock
) -> str | Advice:
    wanted = settings.timestamps
    authority = AuthorityFiles.of(folder, wanted.key_path, wanted.certificate_path).load()
    if authority is None:
        return f"no key here: {routes.TIMESTAMPS.template} answers 404"
    require_private(wanted.key_path or folder.tsa_key)
    return describe_authority(authority, clock)


def _show(finding: Finding) -> None:
    mark = "FAILED" if finding.error is not None else "warn  " if finding.hint else "ok    "
    click.echo(f"{mark}  {finding.part:<9} {finding.text}")
    if finding.hint:
        click.echo(f"        next: {finding.hint}")


def _document(finding: Finding) -> Json:
    return {
        "code": None if finding.error is None else finding.error.code,
        "hint": finding.hint,
        "part": finding.part,
        "text": finding.text,
    }
