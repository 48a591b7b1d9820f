"""Where the filer's things lie: keys, pinned servers, and one folder for each submission.

Source: docs/spec/journal.md, folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bistro_client import messages

_PRINCIPAL = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of one submission; its name is the submission's id."""

    path: Path

    @property
    def id(self) -> str:
        """The submission's id."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """What was done, and so what is to be done next."""
        return self.path / "journal.json"

    @property
    def sealed(self) -> Path:
        """The journal as it was when sealing ended, written once: see ``Journal.recover``."""
        return self.path / "sealed.json"

    @property
    def has_begun(self) -> bool:
        """Whether there is a journal; without one nothing was read, sealed or promised."""
        return self.journal.exists() or self.sealed.exists()

    @property
    def lock(self) -> Path:
        """Held by the one process that works on this submission."""
        return self.path / "lock"

    @property
    def spool(self) -> Path:
        """The fragments, until nobody can ask for them any more."""
        return self.path / "spool"

    def fragment(self, index: int) -> Path:
        """The bytes of one fragment."""
        return self.spool / f"{index}.fragment"

    @property
    def header(self) -> Path:
        """Header and filer signature."""
        return self.path / "submission.bin"

    @property
    def manifest(self) -> Path:
        """The manifest, verbatim."""
        return self.path / "manifest.json"

    @property
    def file_key(self) -> Path:
        """The envelope's file key, base64: a court could open this one envelope with it."""
        return self.path / "envelope.key"

    @property
    def admission(self) -> Path:
        """What a registered filer signed to get the ticket."""
        return self.path / "admission.bin"

    @property
    def terms(self) -> Path:
        """The folder of all terms versions, each with the proof of its log entry."""
        return self.path / "terms"

    def terms_version(self, version: int) -> Path:
        """One version of the terms, as the server serves it."""
        return self.terms / f"{version}.json"

    @property
    def ticket(self) -> Path:
        """The ticket's proof text."""
        return self.path / f"{self.id}.ticket"

    @property
    def refusal(self) -> Path:
        """The last refusal's proof text."""
        return self.path / f"{self.id}.refusal"

    @property
    def receipts(self) -> Path:
        """The folder of the relays' receipts."""
        return self.path / "receipts"

    def receipt(self, index: int, relay: str) -> Path:
        """One relay's receipt for one fragment."""
        return self.receipts / f"{index}-{relay}.receipt"

    @property
    def evidence(self) -> Path:
        """Everything that proves the submission, in one file."""
        return self.path / f"{self.id}.evidence.json"


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds everything the client keeps."""

    root: Path

    @property
    def keys(self) -> Path:
        """The folder of the filer's key."""
        return self.root / "keys"

    @property
    def key_file(self) -> Path:
        """The filer's key."""
        return self.keys / "filer.pem"

    def key_of(self, principal: str) -> Path:
        """The key of somebody for whom the filer files.

        Raises:
            SettingsError: Not a name that may stand in a file name.
        """
        if not _PRINCIPAL.fullmatch(principal):
            raise messages.bad_principal(principal)
        return self.keys / f"{principal}.pem"

    def principals(self) -> list[str]:
        """Names of all keys; the filer's own is ``filer``."""
        return sorted(path.stem for path in self.keys.glob("*.pem"))

    @property
    def known_servers(self) -> Path:
        """The pinned terms keys."""
        return self.root / "known-servers.json"

    @property
    def submissions(self) -> Path:
        """The folder of all submissions."""
        return self.root / "submissions"

    def folder(self, submission_id: str) -> Folder:
        """The folder of a submission that may not exist."""
        return Folder(self.submissions / submission_id)

    def folders(self) -> list[Folder]:
        """The folders of all submissions that were begun, by id.

        A folder without a journal was never begun: nothing was read, sealed or promised.
        """
        if not self.submissions.is_dir():
            return []
        found = [Folder(path) for path in self.submissions.iterdir()]
        begun = (folder for folder in found if folder.has_begun)
        return sorted(begun, key=lambda folder: folder.id)

    def find(self, name: str) -> Folder:
        """The folder of the submission whose id is, or alone begins with, ``name``.

        Raises:
            SettingsError: There is none, or more than one.
        """
        folders = self.folders()
        exact = [folder for folder in folders if folder.id == name]
        found = exact or [folder for folder in folders if name and folder.id.startswith(name)]
        if len(found) != 1:
            raise messages.no_such_submission(name, [folder.id for folder in found])
        return found[0]


def default_root() -> Path:
    """The platform's data folder for this program."""
    import platformdirs  # noqa: PLC0415 - only where no folder was named

    return platformdirs.user_data_path("bistro", appauthor=False)
