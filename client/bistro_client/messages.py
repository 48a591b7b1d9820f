"""Every error that the client itself raises: what happened, and what to do next.

One catalogue, so that all of them read alike: the message says what was expected and found, the
hint what to do. What is told without being an error stands in ``notices``.

Source: docs/spec/errors.md; docs/spec/commands.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bistro.crypto.signing import VerifierKey
from bistro.errors import (
    BistroError,
    DeadlinePassedError,
    LimitExceededError,
    NotOpenError,
    NotRegisteredError,
    RefusedError,
    SettingsError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
    VerificationError,
)
from bistro.instant import UnixMillis, format_duration
from bistro.wire.discovery import ServerDiscovery
from bistro.wire.refusal import Refusal
from bistro.wire.terms import Terms
from bistro_client.times import show

RESTORE: Final = "put the file back from a backup; the files next to it are untouched"
_SHOWN: Final = 5

# --- what the filer named ---


def nothing_named() -> SettingsError:
    """There is nothing to submit."""
    return SettingsError("no files were named", hint="name at least one file or folder")


def missing_path(path: Path) -> SettingsError:
    """A named path does not exist."""
    return SettingsError(
        f"{path}: there is no such file or folder", hint="check the spelling; nothing was sent"
    )


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
        hint="allow this user to read it, or leave it out; nothing was sent",
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
        hint="rename it and submit again; nothing was sent",
    )


def duplicate_name(name: str, first: Path, second: Path) -> SettingsError:
    """Two files would stand in one place of the filing."""
    return SettingsError(
        f"two files would be {name!a} in the filing: {first} and {second}",
        hint="rename one, or put them in different folders and name those",
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
        hint="pack small files into one, or file them under several slots; nothing was sent",
    )


def too_large(found: int, limit: int) -> LimitExceededError:
    """More bytes than the terms allow."""
    return LimitExceededError(
        f"filing: expected an envelope of at most {limit:,} bytes, found {found:,} or more",
        hint="leave files out, or ask the destination for a larger limit; nothing was sent",
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
        f"{path}: there is no key", hint="make one with `bistro keys new`, or name one with --key"
    )


def bad_key_file(path: Path, error: BistroError) -> SettingsError:
    """A key file that is none."""
    return SettingsError(f"{path}: {error.message}", hint="name another file, or restore a backup")


def not_the_given_key(*, given: VerifierKey, found: VerifierKey) -> VerificationError:
    """The server shows another key than the filer was told."""
    return VerificationError(
        f"the server's terms key is not the trusted one: expected {given.format()} "
        f"(fingerprint {given.fingerprint()}), found {found.format()} "
        f"(fingerprint {found.fingerprint()})",
        hint="send nothing; ask the destination, not by this address, which key is right",
    )


def changed_key(*, pinned: VerifierKey, found: VerifierKey) -> VerificationError:
    """The server shows another key than the last time."""
    return VerificationError(
        f"the terms key of {found.name} changed: pinned was {pinned.format()} (fingerprint "
        f"{pinned.fingerprint()}), now it shows {found.format()} (fingerprint "
        f"{found.fingerprint()}), and no signed rotation leads there",
        hint="send nothing; if the destination confirms the new key in another way, give it "
        "with --trust",
    )


def damaged_pins(path: Path, error: BistroError) -> StorageError:
    """The list of known servers cannot be read."""
    return StorageError(
        f"{path}: the list of known servers is damaged: {error.message}",
        hint="put it back from a backup, or move it away and give --trust or compare fingerprints",
    )


# --- the destination ---


def no_server(url: str, error: BistroError) -> UnavailableError:
    """Somebody answers, but not a Bistro server."""
    return UnavailableError(
        f"{url}: no Bistro server answers there ({error.message})",
        hint="check the address; nothing was sent",
    )


def other_protocol(url: str, protocols: Sequence[int]) -> RefusedError:
    """The server speaks another version."""
    return RefusedError(
        f"{url}: expected a server that speaks protocol 1, found {', '.join(map(str, protocols))}",
        hint="use a newer bistro",
    )


def unknown_call(call: str, discovery: ServerDiscovery) -> UnknownObjectError:
    """The server has no such call."""
    return UnknownObjectError(
        f"{discovery.name} has no call {call!a}",
        hint=f"choose one with --call: {_calls(discovery)}",
    )


def choose_a_call(discovery: ServerDiscovery) -> SettingsError:
    """No call was named and there is not exactly one that is open."""
    return SettingsError(
        f"{discovery.name}: expected exactly one open call, or --call",
        hint=f"choose one with --call: {_calls(discovery)}",
    )


def _calls(discovery: ServerDiscovery) -> str:
    shown = [f"{call.id} ({call.state})" for call in discovery.calls[:_SHOWN]]
    more = len(discovery.calls) - len(shown)
    return ", ".join(shown + ([f"{more} more"] if more > 0 else [])) or "there are none"


def registered_only(terms: Terms) -> NotRegisteredError:
    """This version files in calls for anyone only."""
    return NotRegisteredError(
        f"{terms.origin}: only registered filers may submit, which this version cannot do",
        hint="ask the destination how to file; nothing was sent",
    )


def not_open_yet(terms: Terms) -> NotOpenError:
    """The call opens later."""
    return NotOpenError(
        f"{terms.origin} opens {show(terms.opens, terms.time_zone)}",
        hint="run the same command again then; nothing was sent",
    )


def nonsense(error: BistroError) -> UnavailableError:
    """An answer that cannot be read counts as none."""
    return UnavailableError(
        f"an answer could not be read ({error.message})",
        hint="something may stand between you and the destination; `bistro resume` asks again",
    )


def not_stamped(code: str) -> str:
    """What it means that the destination stamped nothing."""
    return f"the destination gave no ticket ({code})"


def hint_for_postponed(code: str, retry_ms: int) -> str:
    """What to do about a request that was not stamped."""
    if retry_ms:
        return f"run `bistro resume` in {format_duration(retry_ms)}"
    if code == DeadlinePassedError.code:
        return "it is too late even for a signed refusal; ask the destination"
    if code == UnknownObjectError.code:
        return "the destination does not know the terms it served: ask it, and keep this folder"
    return "`bistro resume` asks again; if it stays so, ask the destination"


def late_ticket(at: UnixMillis, terms: Terms) -> VerificationError:
    """A ticket that is not on time proves nothing."""
    last = UnixMillis(terms.closes + terms.grace_ms)
    return VerificationError(
        f"ticket: it is of {show(at, terms.time_zone)}, after the last moment "
        f"{show(last, terms.time_zone)}",
        hint="it does not make you on time; ask the destination",
    )


def refused(path: Path, refusal: Refusal, terms: Terms) -> DeadlinePassedError:
    """The destination refused, signed."""
    at = show(refusal.time, terms.time_zone)
    last = show(UnixMillis(terms.closes + terms.grace_ms), terms.time_zone)
    return DeadlinePassedError(
        f"the destination refused the submission at {at} ({refusal.reason}; the last moment was "
        f"{last})",
        hint=f"you are NOT on time; the signed refusal proves your attempt: keep {path}; if the "
        "call is extended, `bistro resume` asks again",
    )


# --- relays ---


def no_relay(error: BistroError) -> UnavailableError:
    """No relay took a fragment; the last one's words."""
    return UnavailableError(
        f"no relay takes a fragment now; the last one said: {error.message}",
        hint="`bistro resume` tries again; the ticket stays valid",
    )


def lost_fragment(path: Path) -> StorageError:
    """A fragment on our own disk is missing or damaged."""
    return StorageError(
        f"{path}: the sealed fragment is missing or damaged",
        hint="put it back from a backup: sealing again would be another submission; what other "
        "relays hold already still counts",
    )


def receipt_for_another(relay: str, index: int) -> VerificationError:
    """A receipt that fits another fragment."""
    return VerificationError(f"relay {relay}: its receipt is not for fragment {index}")


def short_hold(relay: str, until: UnixMillis, terms: Terms) -> VerificationError:
    """A receipt that ends too early."""
    return VerificationError(
        f"relay {relay}: promises to hold until {show(until)} only, the terms ask for 7 days "
        f"after {show(terms.repair_by)}"
    )


def receipts_not_taken(name: str) -> RefusedError:
    """Receipts were replaced again and again, and none was taken."""
    return RefusedError(
        "the destination takes none of the relays' receipts",
        hint=f"you are on time; the fragments are at relays; send `{name}` and its evidence to "
        "the destination, and run `bistro resume` later",
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
