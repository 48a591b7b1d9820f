"""Every error that the client itself raises: what happened, and what to do next.

One catalogue, so that all of them read alike: the message says what was expected and found, the
hint what to do. What is told without being an error stands in ``notices``.

Source: docs/spec/errors.md; docs/spec/commands.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bistro.errors import (
    BistroError,
    LimitExceededError,
    RefusedError,
    SettingsError,
    StorageError,
    UnavailableError,
    VerificationError,
)

RESTORE: Final = "put the file back from a backup; the files next to it are untouched"
_SHOWN: Final = 5

# --- what the filer named ---


def nothing_named() -> SettingsError:
    """There is nothing to submit."""
    return SettingsError("no files were named", hint="name at least one file or folder")


def missing_path(path: Path) -> SettingsError:
    """A named path does not exist."""
    return SettingsError(f"{path}: there is no such file or folder", hint="check the spelling")


def vanished(path: Path) -> SettingsError:
    """A file was there and is gone."""
    return SettingsError(
        f"{path}: the file was there and is gone",
        hint="put it back or leave it out, then submit again; nothing was promised yet",
    )


def unreadable(path: Path, error: OSError) -> SettingsError:
    """A file or folder cannot be read."""
    return SettingsError(
        f"{path}: cannot be read: {error.strerror or type(error).__name__}",
        hint="allow this user to read it, or leave it out",
    )


def empty_folder(path: Path) -> SettingsError:
    """A named folder holds no file."""
    return SettingsError(
        f"{path}: the folder has no files in it",
        hint="name a folder with files; an empty filing is never sent",
    )


def not_a_file(path: Path) -> SettingsError:
    """A pipe, a device or a socket."""
    return SettingsError(
        f"{path}: expected a file or a folder, found something else",
        hint="leave it out, or copy its content to a file",
    )


def link_in_folder(path: Path) -> SettingsError:
    """A symbolic link inside a folder."""
    return SettingsError(
        f"{path}: symbolic links are not followed, since what they lead to was not named",
        hint="put the file itself there, or name it by itself",
    )


def name_not_allowed(path: Path, error: BistroError) -> SettingsError:
    """A name that some system could not unpack."""
    return SettingsError(
        f"{str(path)!a}: this name cannot be filed: {error.message}",
        hint="rename it, so that every system can unpack it, and submit again",
    )


def duplicate_name(name: str, first: Path, second: Path) -> SettingsError:
    """Two files would stand in one place of the filing."""
    return SettingsError(
        f"two files would be {name!a} in the filing: {first} and {second}",
        hint="rename one, or put them in different folders and name those",
    )


def clashing_names(names: tuple[str, str], files: Sequence[Path]) -> SettingsError:
    """Two files that some system could not unpack beside each other."""
    return SettingsError(
        f"{' and '.join(map(str, files))}: not every system can hold {names[0]!a} beside "
        f"{names[1]!a}, where upper and lower case are the same, or one is a file and a folder",
        hint="rename one of them and submit again",
    )


def path_not_text(path: Path) -> SettingsError:
    """A path that is not UTF-8 cannot be written down."""
    return SettingsError(
        f"{str(path)!a}: the path is not UTF-8", hint="rename the folder, then submit again"
    )


def too_many_files(found: int, limit: int) -> LimitExceededError:
    """More files than the terms, or any terms, allow."""
    return LimitExceededError(
        f"filing: expected at most {limit} files, found at least {found}",
        hint="pack small files into one, or file them under several slots",
    )


def too_large(found: int, limit: int) -> LimitExceededError:
    """More bytes than the terms allow."""
    return LimitExceededError(
        f"filing: expected an envelope of at most {limit:,} bytes, found {found:,} or more",
        hint="leave files out, or ask the destination for a larger limit",
    )


def disk_too_small(path: Path, *, needed: int, free: int) -> StorageError:
    """The fragments would not fit."""
    return StorageError(
        f"{path}: sealing needs {needed:,} bytes on this disk, {free:,} are free",
        hint="free some space, or use another --home; your files are untouched",
    )


# --- keys ---


def key_exists(path: Path) -> SettingsError:
    """A key is never replaced."""
    return SettingsError(
        f"{path}: there is a key already, and it is left as it is",
        hint="without it earlier submissions cannot be amended; use another --home for another key",
    )


def no_key(path: Path) -> SettingsError:
    """There is no key file."""
    return SettingsError(
        f"{path}: there is no key",
        hint="make one with `bistro keys new` (with --as NAME for somebody else), or name one with "
        "--key",
    )


def another_key(path: Path, expected: bytes) -> SettingsError:
    """The key is not the one that signed the submission."""
    return SettingsError(
        f"{path}: expected the key {expected.hex()}, which sealed this submission, found another",
        hint="put that key back from a backup; nobody else can ask for this ticket",
    )


def key_of_another(path: Path, expected: bytes) -> SettingsError:
    """Only the key that signed the earlier submission may change it."""
    return SettingsError(
        f"{path}: expected the key {expected.hex()}, which signed the earlier submission, found "
        "another",
        hint="nothing was sent; put that key back from a backup: only its holder can amend or "
        "withdraw",
    )


def bad_principal(name: str) -> SettingsError:
    """A name for a key that not every system could hold."""
    return SettingsError(
        f"{name!a}: expected 1 to 64 letters a-z, digits, hyphens and underscores",
        hint="choose such a name for whom you file; it stays on this machine",
    )


def bad_key_file(path: Path, error: BistroError) -> SettingsError:
    """A key file that is none."""
    return SettingsError(f"{path}: {error.message}", hint="name another file, or restore a backup")


def no_keyring_library() -> SettingsError:
    """The extra is not installed."""
    return SettingsError(
        "the key is to be in the system's keyring, and the library for it is not installed",
        hint="install it with `pip install bistro[keyring]`, and run the same command again",
    )


def keyring_fails(error: Exception) -> SettingsError:
    """There is no keyring here, or it is locked."""
    return SettingsError(
        f"the system's keyring cannot be used: {str(error).strip() or type(error).__name__}",
        hint="unlock it, or log in where it is; nothing was sent. `bistro keys new` without "
        "--keyring keeps a key in a file",
    )


def forgetful_keyring() -> SettingsError:
    """What was stored cannot be read again."""
    return SettingsError(
        "the system's keyring does not keep what it is given",
        hint="choose another keyring for the library `keyring`, or keep the key in a file: "
        "`bistro keys new` without --keyring",
    )


def another_in_keyring(path: Path) -> SettingsError:
    """The entry was replaced."""
    return SettingsError(
        f"{path}: the system's keyring has another key under this one's name",
        hint="somebody replaced it: do not use it; unpack a backup and use that with --home",
    )


def not_in_keyring(public: bytes) -> SettingsError:
    """The entry was deleted, or it is another user's keyring."""
    return SettingsError(
        f"the system's keyring has no key bistro/{public.hex()}",
        hint="log in as the user who made it, or unpack a backup (`bistro keys backup` wrote it) "
        "and use it with --home; nothing was sent",
    )


def damaged_pins(path: Path, error: BistroError) -> StorageError:
    """The list of known servers cannot be read."""
    return StorageError(
        f"{path}: the list of known servers is damaged: {error.message}",
        hint="put it back from a backup, or move it away and give --trust or compare fingerprints",
    )


# --- what the client keeps ---


def no_such_submission(name: str, found: Sequence[str]) -> SettingsError:
    """A submission that does not exist, or more than one."""
    if found:
        return SettingsError(
            f"{name!a} stands for {len(found)} submissions: {', '.join(found[:_SHOWN])}",
            hint="give more of its name",
        )
    return SettingsError(
        f"there is no submission {name!a}", hint="`bistro status` lists them; check --home"
    )


def nothing_to_change(name: str, kind: str) -> RefusedError:
    """A submission without ticket can be neither amended nor withdrawn."""
    return RefusedError(
        f"{name}: there is no ticket, so the destination knows nothing that could be {kind}"
        + ("ed" if kind == "amend" else "n"),
        hint=f"nothing was sent; `bistro resume {name}` asks for its ticket, and `bistro submit` "
        "files something else",
    )


def nothing_to_print(name: str) -> RefusedError:
    """A submission without ticket is confirmed by nobody."""
    return RefusedError(
        f"{name}: there is no ticket, so there is nothing to confirm",
        hint=f"you are NOT on time yet; `bistro resume {name}` asks for the ticket",
    )


def submission_in_use(name: str, error: UnavailableError) -> UnavailableError:
    """Another process is at work on it."""
    return UnavailableError(
        error.message, hint=f"let it finish, or stop it; then run `bistro resume {name}`"
    )


def missing_journal(folder: Path, *, is_sealed: bool) -> StorageError:
    """The journal is gone."""
    return StorageError(
        f"{folder.name}: its journal is missing", hint=_recovery(folder.name, is_sealed=is_sealed)
    )


def damaged_journal(folder: Path, error: BistroError, *, is_sealed: bool) -> StorageError:
    """The journal cannot be read."""
    return StorageError(
        f"{folder.name}: its journal is damaged ({error.message})",
        hint=_recovery(folder.name, is_sealed=is_sealed),
    )


def newer_journal(folder: Path, version: int) -> StorageError:
    """The journal is whole, and of a later version than this program knows."""
    return StorageError(
        f"{folder.name}: its journal is of version {version}, this program knows 1",
        hint="a newer bistro wrote it: go on with that one; nothing is lost",
    )


def _recovery(name: str, *, is_sealed: bool) -> str:
    if is_sealed:
        return f"nothing is lost: `bistro resume {name} --recover` goes on from the copy beside it"
    return "it was never sealed, so nothing was promised: submit again, and delete that folder"


def nothing_to_recover(name: str) -> StorageError:
    """There is no copy of the journal."""
    return StorageError(
        f"{name}: there is no copy of its journal to go on from",
        hint="put journal.json back from a backup; if there never was a ticket, submit again",
    )


def evidence_fails(failures: Sequence[tuple[str, str]]) -> VerificationError:
    """Evidence with what was just received would not verify."""
    shown = "; ".join(f"{part}: {text}" for part, text in failures[:_SHOWN])
    return VerificationError(
        f"what was received does not hold together: {shown or 'a needed part is missing'}",
        hint="the evidence from before was kept; ask again later, and tell the destination",
    )


# --- files to verify ---


def no_such_file(path: Path) -> SettingsError:
    """There is nothing to verify."""
    return SettingsError(f"{path}: there is no such file", hint="check the spelling")


def unreadable_file(error: BistroError) -> SettingsError:
    """A folder, or a file of somebody else."""
    return SettingsError(error.message, hint="name a file that this user may read")


def unknown_file(path: Path, error: BistroError | None = None) -> VerificationError:
    """A file that is no evidence, ticket, receipt or refusal."""
    reason = "" if error is None else f": {error.message}"
    return VerificationError(
        f"{path}: not evidence, a ticket, a receipt or a refusal as Bistro writes them{reason}",
        hint="it may be damaged or tampered with: do not rely on it; get the file again from "
        "whoever gave it",
    )


def no_context(path: Path, ledger: str) -> SettingsError:
    """A bare promise and no key to check it with."""
    return SettingsError(
        f"{path}: it says that it is from {ledger}, and no key for that is known here",
        hint="verify the submission's *.evidence.json instead, put it beside this file, or give "
        "the key with --trust",
    )


def target_exists(path: Path) -> SettingsError:
    """A backup never replaces a file."""
    return SettingsError(
        f"{path}: there is a file already, and it is left as it is", hint="name another file"
    )


def lost_fragment(path: Path) -> StorageError:
    """A fragment on our own disk is missing or damaged."""
    return StorageError(
        f"{path}: the sealed fragment is missing or damaged",
        hint="put it back from a backup: sealing again would be another submission; what other "
        "relays hold already still counts",
    )
