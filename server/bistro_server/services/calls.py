"""The calls of a server as its folder has them: terms, keys, relays.

Reading blocks and takes no lock: what is there was complete before it got its name, and is
never edited. Whether a call is closed or opened stands in its log: see ``services.ledgers``.

Source: docs/spec/terms.md; docs/spec/promises.md, keys and their names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bistro.crypto.age.keys import KeyIdentity
from bistro.crypto.keyfile import decode_note_key
from bistro.crypto.sealing import decode_identity_file
from bistro.crypto.signing import LocalSigner, SigningKey, VerifierKey
from bistro.errors import StorageError, UnknownObjectError
from bistro.ids import Origin
from bistro.storage.durable import well_formed
from bistro.wire.clauses import Relay
from bistro.wire.terms import SignedTerms, Terms
from bistro_server.services.folder import CallFolder, ServerFolder, require_file

_RESTORE = "restore the file from a copy"


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its terms and the keys with which this server speaks for it.

    Attributes:
        folder: Where it lies.
        origin: ``<server>/<call>``.
        versions: Every logged version of the terms, ascending; at least one.
        status_key: Signs status, outcomes and minutes; named ``<origin>/status``.
        collect_key: Signs requests to relays; named ``<origin>/collect``.
    """

    folder: CallFolder
    origin: Origin
    versions: tuple[SignedTerms, ...]
    status_key: SigningKey
    collect_key: SigningKey

    @property
    def id(self) -> str:
        """The call id."""
        return self.origin.call

    @property
    def latest(self) -> SignedTerms:
        """The newest version of the terms."""
        return self.versions[-1]

    @property
    def terms(self) -> Terms:
        """What the newest version says."""
        return self.latest.terms

    @property
    def log_key(self) -> VerifierKey:
        """Verifies the call's log; named ``<origin>``, the same for all versions."""
        return self.terms.keys.log

    def version(self, terms_hash: bytes) -> SignedTerms | None:
        """The version with this hash, if it is one of this call."""
        return next((one for one in self.versions if one.hash == terms_hash), None)

    @property
    def relays(self) -> tuple[Relay, ...]:
        """Every relay of every version: of two entries of one name and URL, the newer."""
        known = {
            (relay.name, relay.url): relay for one in self.versions for relay in one.terms.relays
        }
        return tuple(known.values())

    def relay_keys(self, name: str) -> frozenset[VerifierKey]:
        """Every key that some version gives the relay of this name; none if it is in none."""
        return frozenset(relay.vkey for relay in self.relays if relay.name == name)

    def log_signers(self) -> tuple[LocalSigner, LocalSigner]:
        """What signs the log and, under its other name, the refusals; reads the private key.

        Raises:
            SettingsError: The key file is missing.
            StorageError: It holds another key than the terms name.
        """
        key = load_note_key(self.folder.key("log"), self.log_key)
        return LocalSigner(key), LocalSigner(key.renamed(self.origin.refusals))

    def load_identities(self, file: Path | None = None) -> tuple[KeyIdentity, ...]:
        """The age identities that open envelopes, from ``file`` or the call's own place.

        Raises:
            SettingsError: There is no such file.
            StorageError: It is not an identity file.
        """
        path = self.folder.identity if file is None else file
        data = require_file(
            path,
            what=f"identity of call {self.id}",
            hint="bring the file back, or name it with --identity",
        )
        with well_formed(path, hint=_RESTORE):
            return decode_identity_file(data)


class CallRegistry:
    """The calls in a server's folder.

    Args:
        folder: Made by ``init``.
    """

    def __init__(self, folder: ServerFolder) -> None:
        self._folder = folder

    def ids(self) -> list[str]:
        """The ids of all calls, sorted."""
        found = self._folder.calls.iterdir() if self._folder.calls.is_dir() else ()
        return sorted(path.name for path in found if not path.name.startswith("."))

    def load(self, call: str) -> Call:
        """One call, read anew.

        Raises:
            UnknownObjectError: There is no such call.
            SettingsError: A key file is missing.
            StorageError: A file is damaged.
        """
        folder = self._folder.call(call)
        if not folder.root.is_dir():
            raise UnknownObjectError(
                f"call {call}: no such call here", hint="see bistro-server call list"
            )
        versions = tuple(map(_load_terms, _version_files(folder)))
        numbers = [one.terms.version for one in versions]
        if not versions or numbers != list(range(1, len(versions) + 1)):
            raise StorageError(
                f"{folder.terms}: expected versions 1, 2, …, found {numbers}", hint=_RESTORE
            )
        keys = versions[-1].terms.keys
        return Call(
            folder=folder,
            origin=versions[0].origin,
            versions=versions,
            status_key=load_note_key(folder.key("status"), keys.status),
            collect_key=load_note_key(folder.key("collect"), keys.collect),
        )

    def load_all(self) -> list[Call]:
        """All calls, in order of their ids; errors as ``load``."""
        return [self.load(call) for call in self.ids()]


def load_note_key(path: Path, expected: VerifierKey) -> SigningKey:
    """The private key in ``path``, if it is that of ``expected``.

    Raises:
        SettingsError: There is no such file.
        StorageError: It holds another key, or none.
    """
    data = require_file(path, what=f"private key of {expected.name}", hint=_RESTORE)
    with well_formed(path, hint=_RESTORE):
        key = decode_note_key(data)
    if key.verifier != expected:
        raise StorageError(
            f"{path}: expected the key {expected.format()}, found {key.verifier.format()}",
            hint=_RESTORE,
        )
    return key


def _version_files(folder: CallFolder) -> list[Path]:
    found = [path for path in folder.terms.glob("*.note") if path.stem.isdecimal()]
    return sorted(found, key=lambda path: int(path.stem))


def _load_terms(path: Path) -> SignedTerms:
    data = require_file(path, what="terms", hint=_RESTORE)
    with well_formed(path, hint=_RESTORE):
        return SignedTerms.parse(data)
