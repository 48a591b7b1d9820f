"""``bistro keys new | show | backup``."""

from __future__ import annotations

from pathlib import Path

import click

from bistro.wire.document import Json
from bistro_client import keyring
from bistro_client.backup import back_up
from bistro_client.cli.options import Frame, framed, read_passphrase, unlocker, unlocking
from bistro_client.wording import say


@click.group("keys", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Make, show and back up the key that signs what you submit.

    Without the key earlier submissions cannot be amended or withdrawn; without their nonces
    they cannot be proven in full. Keep a backup away from this machine.

    \b
    Examples:
      bistro keys new
      bistro keys new --as acme
      bistro keys new --keyring
      bistro keys list
      bistro keys show
      bistro keys backup /media/stick/bistro-backup.zip
    """  # noqa: D301 - click reads the backspace


_for = click.option(
    "--as", "principal", metavar="NAME", help="The key with which you file for NAME."
)


@command.command("new")
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase that protects the key.")
@click.option(
    "--keyring",
    "in_system",
    is_flag=True,
    help="Keep it in your system's keyring instead of a file: Keychain, Credential Manager, "
    "Secret Service. Needs `pip install bistro[keyring]`.",
)
@_for
@unlocking
@framed
def new(
    frame: Frame,
    *,
    passphrase: bool,
    in_system: bool,
    principal: str | None,
    passphrase_file: Path | None,
) -> None:
    """Make the key; one that is there is never replaced.

    Whoever files for several principals has a key for each: what was filed with one can be
    amended and withdrawn with that one only.
    """
    secret = None
    if in_system and (passphrase or passphrase_file is not None):
        raise click.UsageError(say("keys.expected-keyring-or"))
    if passphrase_file is not None:
        secret = read_passphrase(passphrase_file)
    elif passphrase:
        secret = click.prompt(
            say("keys.passphrase-new-key"), hide_input=True, confirmation_prompt=True, err=True
        )
    key = keyring.create(_path(frame, principal), secret, in_system=in_system)
    _show(frame, key)
    frame.output.line(say("keys.keep-copy-away"))


@command.command("show")
@_for
@unlocking
@framed
def show(frame: Frame, *, principal: str | None, passphrase_file: Path | None) -> None:
    """Show the public key and where it lies; never the private one."""
    _show(frame, unlocker(passphrase_file)(_path(frame, principal)))


@command.command("list")
@framed
def list_keys(frame: Frame) -> None:
    """List the names of all keys; `filer` is your own."""
    names = frame.home.principals()
    documents: list[Json] = [{"name": one, "file": str(frame.home.key_of(one))} for one in names]
    frame.output.result({"keys": documents}, "\n".join(names) or say("keys.no-keys-yet"))


def _path(frame: Frame, principal: str | None) -> Path:
    return frame.home.key_file if principal is None else frame.home.key_of(principal)


@command.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@framed
def backup(frame: Frame, *, file: Path) -> None:
    """Write key, nonces, tickets, receipts and evidence to FILE, a ZIP archive.

    Unpacked into a folder it can be used with --home. Fragments are not in it: a submission
    that is not collected yet needs this machine's disk, too. Whoever has FILE can sign as you,
    unless the key has a passphrase.
    """
    done = back_up(frame.home, file.absolute())
    document: dict[str, Json] = {
        "file": str(done.path),
        "files": done.file_count,
        "submissions": done.submission_count,
    }
    text = say(
        "keys.files-submissions-keep",
        done=done.path,
        file_count=done.file_count,
        submission_count=done.submission_count,
    )
    frame.output.result(document, text)


def _show(frame: Frame, key: keyring.FilerKey) -> None:
    in_system = keyring.is_in_system(key.path)
    place = say("keys.in-system-s", key=key.path) if in_system else str(key.path)
    frame.output.result(
        {
            "file": str(key.path),
            "public_key": key.public.hex(),
            "fingerprint": key.fingerprint,
            "in_keyring": in_system,
        },
        say("keys.key-public-key", place=place, hex=key.public.hex(), fingerprint=key.fingerprint),
    )
