"""The servers whose terms keys are pinned: trust on first use, and never silently another.

Source: docs/spec/journal.md, known-servers.json; docs/spec/terms.md, trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, VerificationError
from bistro.ids import MAX_HOST_NAME_LENGTH
from bistro.instant import UnixMillis
from bistro.storage.durable import SYSTEM_DISK, Disk, make_directories, read_file, write_atomically
from bistro.wire.document import Fields, encode_json
from bistro.wire.terms import SignedTerms
from bistro_client import messages, peer_messages
from bistro_client.brief_locks import briefly_locked
from bistro_client.leftovers import sweep_beside
from bistro_client.wording import say

_VERSION: Final = 1
_MAX_SIZE: Final = 4_194_304
_MAX_SERVERS: Final = 10_000
_MAX_TEXT: Final = 4_096


@dataclass(frozen=True, slots=True)
class Pin:
    """A server that is known.

    Attributes:
        name: Of the server.
        terms_key: Its terms key.
        pinned_at: When this key was first trusted, by this machine's clock.
        url: Where the server was found, as it was typed.
    """

    name: str
    terms_key: VerifierKey
    pinned_at: UnixMillis
    url: str


class KnownServers:
    """The file of pins; several processes may use it at the same time.

    Args:
        path: The file; it may be missing.
        disk: The system calls to use.
    """

    def __init__(self, path: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._path = path
        self._disk = disk

    def pins(self) -> tuple[Pin, ...]:
        """All pins, by name.

        Raises:
            StorageError: The file is damaged.
        """
        data = read_file(self._path, max_size=_MAX_SIZE, disk=self._disk)
        if data is None:
            return ()
        try:
            fields = Fields(say("known_servers.known-servers"), data, max_size=_MAX_SIZE)
            fields.constant("version", _VERSION)
            pins = tuple(map(_read_pin, fields.objects("servers", _MAX_SERVERS)))
            fields.end()
        except BistroError as exc:
            raise messages.damaged_pins(self._path, exc) from exc
        return pins

    def find(self, name: str) -> Pin | None:
        """The pin of the server of this name."""
        return next((pin for pin in self.pins() if pin.name == name), None)

    def at(self, url: str) -> Pin | None:
        """The pin of the server that was found at this URL."""
        return next((pin for pin in self.pins() if pin.url == url), None)

    def save(self, pin: Pin) -> None:
        """Pin a key, in place of one that the same server name or URL had."""
        make_directories(self._path.parent, disk=self._disk)
        with briefly_locked(
            self._path.with_suffix(".lock"), what=say("known_servers.list-known-servers")
        ):
            others = (p for p in self.pins() if p.name != pin.name and p.url != pin.url)
            pins = sorted((*others, pin), key=lambda one: one.name)
            data = encode_json({"version": _VERSION, "servers": [_document(one) for one in pins]})
            sweep_beside(self._path)
            write_atomically(self._path, data, disk=self._disk)


def follow(trusted: VerifierKey, rotations: Sequence[str]) -> VerifierKey:
    """The key that trust in ``trusted`` leads to through notes that changed the terms key.

    Notes that ``trusted`` did not sign are passed over: they are older, or nobody's.
    """
    for text in rotations:
        try:
            signed = SignedTerms.parse(text.encode())
            signed.verify(trusted)
        except BistroError:
            continue
        trusted = signed.terms.keys.terms
    return trusted


def require_trusted(
    found: VerifierKey,
    *,
    pinned: VerifierKey | None,
    given: VerifierKey | None,
    rotations: Sequence[str],
) -> None:
    """Accept the key that a server shows: the given one, else the pinned one, else any.

    Raises:
        VerificationError: It is another, and no rotation leads to it; both are shown.
    """
    trusted = given or pinned
    if trusted is None or follow(trusted, rotations) == found:
        return
    if given is not None:
        raise peer_messages.not_the_given_key(given=given, found=found)
    raise peer_messages.changed_key(pinned=trusted, found=found)


def require_same_server(pin: Pin | None, *, name: str, url: str) -> None:
    """Accept that the server at ``url`` calls itself ``name``.

    Raises:
        VerificationError: A server of another name was pinned there.
    """
    if pin is not None and pin.name != name:
        raise VerificationError(
            say("known_servers.expected-server-which", url=url, pin=pin.name, name=name),
            hint=say("known_servers.check-address-if"),
        )


def _document(pin: Pin) -> dict[str, str | int]:
    return {
        "name": pin.name,
        "terms_key": pin.terms_key.format(),
        "pinned_at": pin.pinned_at,
        "url": pin.url,
    }


def _read_pin(fields: Fields) -> Pin:
    pin = Pin(
        name=fields.text("name", MAX_HOST_NAME_LENGTH),
        terms_key=VerifierKey.parse(fields.text("terms_key", _MAX_TEXT)),
        pinned_at=fields.instant("pinned_at"),
        url=fields.text("url", _MAX_TEXT),
    )
    fields.end()
    return pin
