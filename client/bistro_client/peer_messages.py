"""Errors that the client raises about others: destinations, relays, and what they sign.

The other half of the catalogue in ``messages``, in the same form.

Source: docs/spec/errors.md; docs/spec/commands.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bistro.crypto.signing import VerifierKey
from bistro.errors import (
    BistroError,
    ConflictError,
    DeadlinePassedError,
    NotOpenError,
    NotRegisteredError,
    RefusedError,
    SettingsError,
    UnavailableError,
    UnknownObjectError,
    VerificationError,
)
from bistro.instant import UnixMillis, format_duration
from bistro.wire.discovery import ServerDiscovery
from bistro.wire.refusal import Refusal
from bistro.wire.terms import Terms
from bistro_client.times import show

_SHOWN: Final = 5

# --- whom to trust ---


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


# --- the destination ---


def no_server(url: str, error: BistroError) -> UnavailableError:
    """Somebody answers, but not a Bistro server."""
    return UnavailableError(
        f"{url}: no Bistro server answers there ({error.message})",
        hint="check the address",
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


def not_open_yet(terms: Terms) -> NotOpenError:
    """The call opens later."""
    return NotOpenError(
        f"{terms.origin} opens {show(terms.opens, terms.time_zone)}",
        hint="run the same command again then",
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


def hint_for_postponed(code: str, retry_ms: int, filer_key: bytes) -> str:
    """What to do about a request that was not stamped."""
    if retry_ms:
        return f"run `bistro resume` in {format_duration(retry_ms)}"
    if code == DeadlinePassedError.code:
        return "it is too late even for a signed refusal; ask the destination"
    if code == UnknownObjectError.code:
        return "the destination does not know the terms it served: ask it, and keep this folder"
    if code == NotRegisteredError.code:
        return (
            "only registered filers get tickets of this call: send the destination your public "
            f"key {filer_key.hex()} (`bistro keys show`), and run `bistro resume` once it is "
            "registered"
        )
    if code == ConflictError.code:
        return (
            "somebody else has a ticket for the same commitment: submit your files again, which "
            "makes another one, and tell the destination"
        )
    return "`bistro resume` asks again; if it stays so, ask the destination"


def late_ticket(at: UnixMillis, terms: Terms) -> VerificationError:
    """A ticket that is not on time proves nothing."""
    last = UnixMillis(terms.closes + terms.grace_ms)
    return VerificationError(
        f"ticket: it is of {show(at, terms.time_zone)}, after the last moment "
        f"{show(last, terms.time_zone)}",
        hint="it does not make you on time; ask the destination",
    )


def refused(path: Path, refusal: Refusal, terms: Terms) -> BistroError:
    """The destination refused, signed."""
    at = show(refusal.time, terms.time_zone)
    if refusal.reason == "tickets-per-filer":
        return RefusedError(
            f"the destination refused the submission at {at} ({refusal.reason}): your key has all "
            f"the {terms.tickets_per_filer} tickets that one filer may have in this call",
            hint=f"this submission is NOT on time; the signed refusal proves your attempt: keep "
            f"{path}; `bistro status` shows the tickets that you have; ask the destination",
        )
    last = show(UnixMillis(terms.closes + terms.grace_ms), terms.time_zone)
    return DeadlinePassedError(
        f"the destination refused the submission at {at} ({refusal.reason}; the last moment was "
        f"{last})",
        hint=f"you are NOT on time; the signed refusal proves your attempt: keep {path}; if the "
        "call is extended, `bistro resume` asks again",
    )


# --- relays ---


AT_THE_CAP: Final = "its operator holds as many fragments as one may lose"


def no_relay(
    problems: Mapping[str, str], *, retry_after_s: float | None = None
) -> UnavailableError:
    """No relay takes a fragment: what stands against each."""
    listed = "; ".join(f"{relay}: {problem}" for relay, problem in sorted(problems.items()))
    return UnavailableError(
        f"no relay takes fragments now ({listed or 'the terms name none'})",
        hint="`bistro resume` tries again; the ticket stays valid",
        retry_after_s=retry_after_s,
    )


def slower(relay: str, winner: str) -> UnavailableError:
    """A relay lost a race for a fragment."""
    return UnavailableError(f"relay {relay}: slower than {winner}, which holds the fragment")


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
