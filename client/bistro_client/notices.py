"""Everything that is told without being an error, and where a filer stands in one sentence.

Source: docs/guides/filers.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bistro.errors import BistroError
from bistro.instant import UnixMillis, format_duration
from bistro.protocol.submission import Step, Submission, SubmissionState
from bistro.wire.header import Kind
from bistro.wire.status import Outcome
from bistro.wire.terms import SignedTerms, Terms
from bistro.wire.ticket import Ticket
from bistro_client.known_servers import Pin
from bistro_client.listening import Level, Notice
from bistro_client.times import show

_MOMENT_MS = 1_000


def _info(key: str, text: str) -> Notice:
    return Notice(Level.INFO, key, text)


def _warning(key: str, text: str) -> Notice:
    return Notice(Level.WARNING, key, text)


# --- trust and time ---


def pinned(pin: Pin, *, was_given: bool) -> Notice:
    """The first contact with a server, or a new key of it."""
    how = "given" if was_given else "seen here for the first time and pinned"
    text = (
        f"terms key of {pin.name} {how}: fingerprint {pin.terms_key.fingerprint()}\n"
        f"  {pin.terms_key.format()}"
    )
    if was_given:
        return _info("pinned", text)
    return _warning(
        "pinned", text + "\n  compare the fingerprint with what the destination publishes elsewhere"
    )


def clock_is_off(offset_ms: int) -> Notice:
    """This machine's clock is wrong; nothing depends on it."""
    side = "behind" if offset_ms > 0 else "ahead of"
    return _warning(
        "clock-is-off",
        f"this machine's clock is {format_duration(abs(offset_ms))} {side} the destination's; "
        "only the destination's time counts, so nothing changes",
    )


def deadline(terms: Terms, now: UnixMillis) -> Notice:
    """When the call closes, in its own time zone and here."""
    closes = show(terms.closes, terms.time_zone)
    stage_by = show(terms.stage_by, terms.time_zone)
    left_ms = terms.closes - now
    if left_ms < 0:
        return _warning(
            "deadline",
            f"{terms.origin} ({terms.title}) closed {closes}: asking all the same, for a signed "
            "answer",
        )
    return _info(
        "deadline",
        f"{terms.origin} ({terms.title}) closes {closes}, in {format_duration(left_ms)}; "
        f"fragments must be staged by {stage_by}",
    )


def limits(terms: Terms, *, count: int, size: int, offset_ms: int | None) -> Notice:
    """What is to be filed beside what may be, and how far off the clock here is."""
    clock = "unknown, only its counts"
    if offset_ms is not None:
        side = "behind" if offset_ms > 0 else "ahead of"
        clock = f"yours is {format_duration(abs(offset_ms))} {side} it, give or take a second"
    return _info(
        "limits",
        f"{count:,} of at most {terms.files_limit:,} files, {size:,} of at most "
        f"{terms.envelope_limit:,} bytes; the destination's clock: {clock}",
    )


# --- a submission's way ---


def key_made(path: Path) -> Notice:
    """The first submission makes the filer's key."""
    return _info("key-made", f"made your key, {path}; keep a copy: `bistro keys backup FILE`")


def begun(submission: Submission) -> Notice:
    """A submission has a name now."""
    return _info("begun", f"submission {submission.id}")


_NEXT: Final = {
    Step.SEAL: "nothing was promised yet: sealing the files again",
    Step.TICKET: "sealed, and not on time yet: asking for the ticket",
    Step.UPLOAD: "on time: bringing fragments to relays",
    Step.PRESENT: "on time: showing the relays' receipts to the destination",
    Step.WATCH: "on time, and your part is done: looking what became of it",
    Step.REST: "over: there is nothing to do",
}


def resumed(submission: Submission) -> Notice:
    """A submission is taken up again."""
    is_refused = submission.state is SubmissionState.REFUSED
    doing = "refused: looking whether the call was extended" if is_refused else None
    return _info("resumed", f"{submission.id}: {doing or _NEXT[submission.next_step]}")


def sealed(submission: Submission) -> Notice:
    """The envelope is durable."""
    cut = submission.sealed.cut if submission.sealed else None
    size = cut.layout.envelope_size if cut else 0
    count = cut.layout.n if cut else 0
    return _info("sealed", f"sealed: {size:,} bytes in {count} fragments; asking for the ticket")


_ON_TIME: Final[dict[Kind, str]] = {
    "submit": "YOU ARE ON TIME",
    "amend": "YOUR AMENDMENT IS ON TIME",
    "withdraw": "YOUR WITHDRAWAL IS ON TIME",
}


def on_time(path: Path, ticket: Ticket, terms: Terms, *, kind: Kind = "submit") -> Notice:
    """The one thing that matters."""
    at = show(ticket.effective_at, terms.time_zone)
    left_ms = terms.closes - ticket.effective_at
    margin = (
        f"{format_duration(left_ms)} before the deadline"
        if left_ms >= 0
        else "within the grace after the deadline"
    )
    return Notice(
        Level.SUCCESS,
        "on-time",
        f"{_ON_TIME[kind]}: {at}, {margin}\n  signed proof: {path}",
    )


def staged(submission: Submission) -> Notice:
    """The filer's part is done."""
    count = sum(one.receipt is not None for one in submission.fragments)
    needed = submission.sealed.cut.layout.k if submission.sealed else 0
    return Notice(
        Level.SUCCESS,
        "staged",
        f"STAGED: relays hold {count} of {len(submission.fragments)} fragments, {needed} are "
        "needed; it cannot lapse any more",
    )


def state_changed(submission: Submission) -> Notice:
    """The destination says something new."""
    return _info("state", f"{submission.id}: {submission.state}")


def watching(count: int, every_ms: int | None) -> Notice:
    """The program stays and looks now and then."""
    what = "a submission" if count == 1 else f"{count} submissions"
    when = "less often while nothing changes"
    if every_ms is not None:
        when = f"about every {format_duration(every_ms)}"
    return _info(
        "watching",
        f"watching {what} until collected, {when}; Ctrl-C stops it, and nothing is lost",
    )


def outcome_known(outcome: Outcome) -> Notice:
    """How the submission ended."""
    reasons = "; ".join(f"{reason.code}: {reason.text}" for reason in outcome.reasons)
    level = Level.INFO if outcome.outcome in {"opened", "accepted"} else Level.WARNING
    return Notice(
        level, "outcome", f"outcome: {outcome.outcome}" + (f" ({reasons})" if reasons else "")
    )


def repair_asked(indexes: Sequence[int]) -> Notice:
    """Fragments were lost by relays."""
    listed = ", ".join(map(str, indexes))
    return _warning(
        "repair",
        f"the destination asks for fragment {listed} again: staging the same bytes elsewhere",
    )


# --- things that went wrong and go on ---


def waiting(error: BistroError, delay_ms: int) -> Notice:
    """Somebody cannot be reached; it is tried again."""
    when = "at once" if delay_ms < _MOMENT_MS else f"in {format_duration(delay_ms)}"
    return _warning("waiting", f"{error.message}; trying again {when}")


def upload_broke(relay: str, error: BistroError) -> Notice:
    """An upload is taken up again."""
    return _warning("upload-broke", f"relay {relay}: {error.message}; continuing the upload")


def relay_failed(relay: str, index: int, error: BistroError) -> Notice:
    """A fragment goes to another relay."""
    return _warning(
        "relay-failed", f"relay {relay}, fragment {index}: {error.message}; trying another relay"
    )


def racing(slow: str, rival: str, index: int) -> Notice:
    """A second relay gets a fragment whose upload is slow."""
    return _info(
        "racing", f"relay {slow} is slow with fragment {index}: bringing it to {rival} as well"
    )


def relay_unusable(relay: str, problem: str) -> Notice:
    """A relay is left out for now."""
    return _warning("relay-unusable", f"relay {relay} is left out: {problem}")


def left_for_later(index: int, name: str) -> Notice:
    """Enough is staged; one more fragment would be better."""
    return _warning(
        "left-for-later",
        f"no relay takes fragment {index} now; enough are staged without it, "
        f"`bistro resume {name}` tries again",
    )


def concentrated(operator: str, count: int, n: int, name: str) -> Notice:
    """Better with one operator than lapsed; what that costs."""
    return _warning(
        "concentrated",
        f"no other operator's relay takes fragments, and staging has a deadline: {operator} now "
        f"gets {count} of {n}. If that operator loses them all, the destination cannot restore "
        f"your submission; keep this machine's copy, and run `bistro resume {name}` and "
        "`bistro status` until it is collected",
    )


def not_presented(error: BistroError) -> Notice:
    """Receipts are shown later."""
    return _warning("not-presented", f"receipts not shown to the destination yet: {error.message}")


def receipt_refused(relay: str, index: int, message: str) -> Notice:
    """The destination does not believe a relay's receipt."""
    return _warning(
        "receipt-refused",
        f"the destination refuses the receipt of relay {relay} for fragment {index}: {message}; "
        "staging it elsewhere",
    )


def going_on_without_destination(error: BistroError) -> Notice:
    """Relays can be used while the destination is down."""
    return _warning("destination-down", f"{error.message}; uploading to the relays all the same")


def evidence_not_renewed(error: BistroError) -> Notice:
    """The evidence file is older than the journal."""
    return _warning("evidence", f"the evidence file was not brought up to date: {error.message}")


# --- where a filer stands ---


_STANDINGS = {
    SubmissionState.SEALING: (
        "you are NOT on time yet: nothing was sealed or sent; your files are untouched"
    ),
    SubmissionState.SEALED: (
        "you are NOT on time yet: there is no ticket; the sealed submission is safe on disk"
    ),
    SubmissionState.REFUSED: "you are NOT on time: the signed refusal is kept",
    SubmissionState.LAPSED: (
        "the submission lapsed: the ticket was on time, but too few fragments were staged; it "
        "does not count. The evidence is kept: ask the destination"
    ),
}
_AFTERWARDS: Final = {
    SubmissionState.STAGED: (
        "staged: your part is done. Keep this machine's copy until it is collected: "
        "`bistro status` now and then, or `bistro resume --watch`"
    ),
    SubmissionState.COLLECTED: "collected: the destination has everything",
    SubmissionState.OPENED: "opened: `bistro status` shows the outcome",
}


def standing(submission: Submission) -> str:
    """In one sentence: is the filer on time, and what is safe."""
    state = submission.state
    if state in _STANDINGS or submission.ticket is None:
        return _STANDINGS.get(state, "there is no ticket")
    at = show(Ticket.parse(submission.ticket).effective_at, _zone(submission))
    if state in {SubmissionState.TICKETED, SubmissionState.STAGING}:
        return f"you ARE on time ({at}), but not staged yet: {_stage_by(submission)}"
    return f"you ARE on time ({at}), and {_AFTERWARDS[state]}"


def _zone(submission: Submission) -> str:
    terms = _terms(submission)
    return "UTC" if terms is None else terms.time_zone


def _stage_by(submission: Submission) -> str:
    terms = _terms(submission)
    if terms is None:
        return "go on soon"
    return f"it must be by {show(terms.stage_by, terms.time_zone)}"


def _terms(submission: Submission) -> Terms | None:
    if submission.sealed is None:
        return None
    return SignedTerms.parse(submission.sealed.terms.encode()).terms
