"""What ``init`` finds out about the machine, so that it need not be asked.

| wanted | found |
|---|---|
| name | the machine's own host name, if it has a dot |
| operator | the domain of the name |
| abuse contact | ``abuse@`` that domain, the mailbox of RFC 2142 |
| region | the machine's time zone |
| certificate | ``tls/`` in the folder, or Let's Encrypt's for the name, if they can be read |
| bytes kept back | a twentieth of the disk, at most a quarter of what is free, at least 256 MiB |
| user, program | whoever runs ``init``, and what was run |

Source: docs/spec/commands.md, bistro-relay.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.errors import FormatError, SettingsError
from bistro.ids import require_host_name
from bistro_relay.cli.owning import owner_name

LETSENCRYPT: Final = Path("/etc/letsencrypt/live")
LOCALTIME: Final = Path("/etc/localtime")

ROOTS_USER: Final = "bistro-relay"
"""Who runs a relay that root has made."""

_CERTIFICATE: Final = "fullchain.pem"
_KEY: Final = "privkey.pem"
_ZONES: Final = "zoneinfo/"
_NOWHERE: Final = ("Etc/", "UTC", "UCT", "Zulu")
_KEPT_BACK_LEAST: Final = 268_435_456
_MIB: Final = 20
"""Bits of a MiB."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files of a TLS certificate chain and its key."""

    chain: Path
    key: Path


def find_name() -> str:
    """The machine's host name.

    Raises:
        SettingsError: It has none that others could use.
    """
    found = socket.getfqdn().lower().rstrip(".")
    try:
        require_host_name(found, what="host name of this machine")
    except FormatError as exc:
        raise SettingsError(exc.message, hint="say which it is: --name relay.example.net") from exc
    is_local = found.partition(".")[0] in {"localhost", "localhost6"}
    if is_local or found.rpartition(".")[2].isdigit():
        raise SettingsError(
            f"this machine calls itself {found}", hint="say its name: --name relay.example.net"
        )
    return found


def domain_of(name: str) -> str:
    """The domain that a host's name stands in, or the name where that is a domain itself."""
    rest = name.partition(".")[2]
    return rest if "." in rest else name


def find_region(localtime: Path = LOCALTIME) -> str:
    """The machine's time zone, or nothing where it keeps that of nowhere."""
    target = str(localtime.resolve())
    zone = target.partition(_ZONES)[2]
    return "" if not zone or zone.startswith(_NOWHERE) else zone


def find_certificate(
    directory: Path, name: str, letsencrypt: Path = LETSENCRYPT
) -> Certificate | None:
    """A certificate whose key we may read, if there is one."""
    for folder in (directory.absolute() / "tls", letsencrypt / name):
        found = Certificate(folder / _CERTIFICATE, folder / _KEY)
        if os.access(found.chain, os.R_OK) and os.access(found.key, os.R_OK):
            return found
    return None


def kept_back(directory: Path) -> int:
    """Bytes of the disk that fragments should not have, rounded to whole MiB."""
    folder = directory.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    disk = shutil.disk_usage(there)
    return max(_KEPT_BACK_LEAST, min(disk.total // 20, disk.free // 4) >> _MIB << _MIB)


def find_program() -> Path:
    """The command ``bistro-relay`` of this installation."""
    beside = Path(sys.executable).absolute().with_name("bistro-relay")
    found = None if beside.exists() else shutil.which("bistro-relay")
    return beside if found is None else Path(found).absolute()


def find_user() -> str:
    """Who shall run the relay: whoever made it, but for root a user of its own."""
    # Not by the environment: a command that root runs may go on as the folder's owner.
    found = owner_name(os.geteuid()) if hasattr(os, "geteuid") else getpass.getuser()
    return ROOTS_USER if found == "root" else found
