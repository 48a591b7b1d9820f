"""Where everything lies in a server's folder.

```
bistro-server.toml      settings
server.sqlite3          what is known of submissions, shared by serve, collect and open
control.sock            through which other processes reach the ledgers of a running serve
inner.sock              through which its workers pass on connections
keys/terms.key          signs terms, as the server
keys/tsa.key  tsa.crt   key and certificate of RFC 3161 time stamps
keys/<call>/            log.key status.key collect.key identity.txt
calls/<call>/terms/     <version>.note, only versions that are in the log
calls/<call>/log/       the ledger of tickets;  calls/<call>/refusals/  that of refusals
calls/<call>/admissions admissions of registered filers, one after the other
calls/<call>/minutes.note
calls/<call>/anchors/   <size>.json, checkpoints that another authority stamped
envelopes/<call>/  inbox/<call>/  status/<call>/
collecting/<call>/      fragments on their way in, wrong bytes as proof, locks: see collecting_files
```

A call's folders appear by a rename when they are complete, so a reader sees all or nothing.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.errors import SettingsError
from bistro.ids import require_call_id
from bistro.storage.durable import read_file

SETTINGS_FILE: Final = "bistro-server.toml"
MAX_SMALL_FILE_SIZE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """The paths below ``root``; knowing them reads and makes nothing."""

    root: Path

    @property
    def settings_file(self) -> Path:
        """Settings, TOML."""
        return self.root / SETTINGS_FILE

    @property
    def database(self) -> Path:
        """The database of ``store.schema``."""
        return self.root / "server.sqlite3"

    @property
    def control_socket(self) -> Path:
        """Unix socket of a running ``serve``, mode 0600."""
        return self.root / "control.sock"

    @property
    def inner_socket(self) -> Path:
        """Unix socket between a running ``serve`` and its workers, mode 0600."""
        return self.root / "inner.sock"

    @property
    def serve_lock(self) -> Path:
        """Held by a running ``serve``."""
        return self.root / "serve.lock"

    @property
    def keys(self) -> Path:
        """Folder of private keys, mode 0700."""
        return self.root / "keys"

    @property
    def terms_key(self) -> Path:
        """The server's own key: it signs terms and nothing else."""
        return self.keys / "terms.key"

    @property
    def tsa_key(self) -> Path:
        """The key of RFC 3161 time stamps, PKCS#8, if ``init`` made it."""
        return self.keys / "tsa.key"

    @property
    def tsa_next_key(self) -> Path:
        """A key on its way to ``tsa_key``; it counts if ``tsa_certificate`` is its certificate."""
        return self.keys / "tsa.key.next"

    @property
    def tsa_certificate(self) -> Path:
        """The certificate of that key, PEM."""
        return self.root / "tsa.crt"

    @property
    def calls(self) -> Path:
        """One folder for each call."""
        return self.root / "calls"

    @property
    def envelopes(self) -> Path:
        """Folder of collected envelopes, one folder for each call below it."""
        return self.root / "envelopes"

    @property
    def inbox(self) -> Path:
        """Folder of opened filings, one folder for each call below it."""
        return self.root / "inbox"

    @property
    def status(self) -> Path:
        """Folder of signed status and outcome notes."""
        return self.root / "status"

    @property
    def directories(self) -> tuple[Path, ...]:
        """The folders that ``init`` makes."""
        return (self.keys, self.calls, self.envelopes, self.inbox, self.status)

    def call(self, call: str) -> CallFolder:
        """The paths of one call, which may not exist.

        Raises:
            FormatError: No call can have this id.
        """
        require_call_id(call)
        return CallFolder(self, call)

    def require_initialised(self) -> None:
        """Refuse a folder that ``init`` did not make.

        Raises:
            SettingsError: There are no settings.
        """
        if not self.settings_file.is_file():
            raise SettingsError(
                f"{self.root}: expected the folder of a server, found no {SETTINGS_FILE}",
                hint="name the folder with --dir, or make one with bistro-server init",
            )


@dataclass(frozen=True, slots=True)
class CallFolder:
    """The paths of one call."""

    server: ServerFolder
    call: str

    @property
    def root(self) -> Path:
        """Terms and ledgers; exists exactly for calls that exist."""
        return self.server.calls / self.call

    @property
    def terms(self) -> Path:
        """Versions of the terms, ``<version>.note``; all of them are in the log."""
        return self.root / "terms"

    @property
    def log(self) -> Path:
        """The ledger of tickets."""
        return self.root / "log"

    @property
    def refusals(self) -> Path:
        """The ledger of refusals."""
        return self.root / "refusals"

    @property
    def minutes(self) -> Path:
        """The minutes note, once the call was opened."""
        return self.root / "minutes.note"

    @property
    def anchors(self) -> Path:
        """Checkpoints of the log that another authority stamped; made with the first of them."""
        return self.root / "anchors"

    @property
    def keys(self) -> Path:
        """Private keys of this call."""
        return self.server.keys / self.call

    @property
    def identity(self) -> Path:
        """The age identity that opens envelopes; the operator may move it away."""
        return self.keys / "identity.txt"

    @property
    def envelopes(self) -> Path:
        """Collected envelopes of this call."""
        return self.server.envelopes / self.call

    @property
    def inbox(self) -> Path:
        """Opened filings of this call."""
        return self.server.inbox / self.call

    def key(self, name: str) -> Path:
        """A note key: ``log``, ``status`` or ``collect``."""
        return self.keys / f"{name}.key"


def require_file(path: Path, *, what: str, hint: str) -> bytes:
    """The whole of a small file.

    Raises:
        SettingsError: There is no such file.
        StorageError: It cannot be read.
    """
    data = read_file(path, max_size=MAX_SMALL_FILE_SIZE)
    if data is None:
        raise SettingsError(f"{what}: expected the file {path}, found none", hint=hint)
    return data
