"""``bistro-server tsa``: the certificate of this server's time stamps.

Source: docs/spec/commands.md; docs/spec/timestamps.md, key and certificate.
"""

from __future__ import annotations

from pathlib import Path

import click

from bistro.crypto.timestamp import certificate as certificates
from bistro.errors import SettingsError
from bistro.instant import UnixMillis
from bistro.wire.document import Json
from bistro_server.cli.running import dir_option, json_option, load, print_json, shown, system_clock
from bistro_server.services.authority import (
    Authority,
    AuthorityFiles,
    import_authority,
    renew_authority,
)
from bistro_server.services.folder import ServerFolder, require_file
from bistro_server.settings import ServerSettings

_DAY_MS = 86_400_000


@click.group()
def tsa() -> None:
    """Show, renew or import the certificate of RFC 3161 time stamps."""


@tsa.command()
@dir_option
@json_option
def show(folder: ServerFolder, *, as_json: bool) -> None:
    """Subject, issuer, fingerprint and end of the certificate."""
    settings = load(folder)
    found = _load(folder, settings)
    _print(folder, settings, found, as_json=as_json)


@tsa.command()
@click.option("--new-key", is_flag=True, help="Make a new key, too.")
@dir_option
@json_option
def renew(folder: ServerFolder, *, new_key: bool, as_json: bool) -> None:
    """Make a new certificate that vouches for itself, for the same key unless --new-key."""
    settings = _own(folder)
    now = system_clock(settings).now()
    found = renew_authority(folder, name=settings.name, now=now, with_new_key=new_key)
    _print(folder, settings, found, as_json=as_json)
    _tell_when()


@tsa.command()
@dir_option
def request(folder: ServerFolder) -> None:
    """Print a request (PKCS #10, PEM) for a certificate of this server's key, for an issuer."""
    settings = load(folder)
    found = _load(folder, settings)
    click.echo(certificates.make_request(found.key, name=settings.name).decode(), nl=False)


@tsa.command("import")
@click.argument("chain", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="PEM file of its key, if it is new.")
@dir_option
@json_option
def import_(folder: ServerFolder, chain: Path, key: Path | None, *, as_json: bool) -> None:
    """Take the certificate in CHAIN (PEM: it, then those above it) for the key that is here."""
    settings = _own(folder)
    found = import_authority(
        folder,
        chain=require_file(chain, what="CHAIN", hint="name a PEM file"),
        key=None if key is None else require_file(key, what="--key", hint="name a PEM file"),
        now=system_clock(settings).now(),
    )
    _print(folder, settings, found, as_json=as_json)
    _tell_when()


def _own(folder: ServerFolder) -> ServerSettings:
    """The settings, if they leave the files to this program."""
    settings = load(folder)
    if settings.timestamps.certificate_path is not None:
        raise SettingsError(
            f"the settings name {settings.timestamps.certificate_path} as the certificate",
            hint="replace that file and its key yourself, or remove both from [timestamps]",
        )
    return settings


def _load(folder: ServerFolder, settings: ServerSettings) -> Authority:
    wanted = settings.timestamps
    found = AuthorityFiles.of(folder, wanted.key_path, wanted.certificate_path).load()
    if found is None:
        raise SettingsError(
            "expected a key and certificate for time stamps, found none",
            hint="import them: bistro-server tsa import --key FILE CHAIN",
        )
    return found


def _print(
    folder: ServerFolder, settings: ServerSettings, found: Authority, *, as_json: bool
) -> None:
    begins, ends = certificates.validity(found.own)
    document: dict[str, Json] = {
        "subject": found.own.subject.rfc4514_string(),
        "issuer": found.own.issuer.rfc4514_string(),
        "serial": f"{found.own.serial_number:x}",
        "sha256": found.fingerprint,
        "valid_from": shown(begins),
        "valid_until": shown(ends),
        "certificates": len(found.chain),
        "file": str(settings.timestamps.certificate_path or folder.tsa_certificate),
        "policy": settings.timestamps.policy,
    }
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        note = _remaining(ends, system_clock(settings).now()) if name == "valid_until" else ""
        click.echo(f"{name:<13} {value}{note}")


def _remaining(ends: UnixMillis, now: UnixMillis) -> str:
    days = (ends - now) // _DAY_MS
    return " (it is over: nothing is stamped)" if days < 0 else f" ({days} days)"


def _tell_when() -> None:
    click.echo("A running serve signs with it in a few seconds.", err=True)
