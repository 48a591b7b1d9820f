"""When a ticket is on time, when bytes may be staged, when a call may be opened.

All times are compared with the terms in force: ``closes`` and ``grace_ms`` of the latest terms
entry before the ticket in the log, ``stage_by`` and ``repair_by`` of the latest in the log.

| question | first moment | last moment |
|---|---|---|
| is a ticket on time | ``opens`` | ``closes + grace_ms`` |
| may a fragment be staged | ``opens`` | ``stage_by`` |
| may a repair be staged | ``opens`` | ``repair_by`` |
| may an envelope be unsealed | after ``sealed_until`` | - |
| may the call be opened | see ``may_open`` | - |

Source: docs/spec/terms.md, ticketing.md, opening.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bistro.errors import DeadlinePassedError, NotOpenError
from bistro.instant import MAX_INSTANT, UnixMillis, format_rfc3339
from bistro.wire.terms import Terms


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether something may be done now, in words, and from when it may be.

    Attributes:
        allowed: The answer.
        reason: Why, as a sentence part: lower case, no full stop.
        allowed_from: The first millisecond at which it is allowed, or None if no moment
            will come (it is too late), or none is known (it depends on an event).
    """

    allowed: bool
    reason: str
    allowed_from: UnixMillis | None

    def require(self) -> None:
        """Return if allowed.

        Raises:
            NotOpenError: Not allowed yet; the hint says from when.
            DeadlinePassedError: Not allowed any more.
        """
        if self.allowed:
            return
        if self.allowed_from is None:
            raise DeadlinePassedError(self.reason)
        when = format_rfc3339(self.allowed_from)
        raise NotOpenError(self.reason, hint=f"try again at {when} or later")


def _after(time: UnixMillis) -> UnixMillis:
    """The millisecond after ``time``; terms may use the last one that has a date."""
    return UnixMillis(min(time + 1, MAX_INSTANT))


def latest_on_time(terms: Terms) -> UnixMillis:
    """The last millisecond at which a ticket is on time."""
    return UnixMillis(terms.closes + terms.grace_ms)


def is_on_time(time: UnixMillis, terms: Terms) -> bool:
    """Whether a ticket of ``time`` is on time under the terms in force at its entry."""
    return time <= latest_on_time(terms)


def terms_in_force(index: int, versions: Sequence[tuple[int, Terms]]) -> Terms:
    """The terms that rule over log entry ``index``.

    Args:
        index: An entry's index in the call's log.
        versions: Every version with the index of its own entry, ascending; the first is at 0.

    Raises:
        ValueError: No version stands before ``index``.
    """
    before = [terms for at, terms in versions if at < index]
    if not before:
        raise ValueError(f"no terms entry before index {index}")
    return before[-1]


def may_stage(now: UnixMillis, terms: Terms, *, repair: bool = False) -> Ruling:
    """Whether fragments may be staged at ``now`` under the latest terms.

    Args:
        now: The time of the one who asks.
        terms: The latest terms known.
        repair: Whether this replaces a fragment that had been staged. A relay cannot tell and
            asks with True; what counts is decided at the destination by ``stage_by``.
    """
    if now < terms.opens:
        return Ruling(False, f"the call opens at {format_rfc3339(terms.opens)}", terms.opens)
    name, until = ("repair_by", terms.repair_by) if repair else ("stage_by", terms.stage_by)
    if now > until:
        reason = f"{name} was {format_rfc3339(until)}, it is {format_rfc3339(now)}"
        return Ruling(False, reason, None)
    return Ruling(True, f"{name} is {format_rfc3339(until)}", terms.opens)


def unsealed_from(terms: Terms) -> UnixMillis:
    """The first millisecond at which an envelope may be decrypted."""
    match terms.sealed_until:
        case "none":
            return terms.opens
        case "closes":
            return _after(latest_on_time(terms))
        case _:
            return _after(terms.stage_by)


def may_open(
    now: UnixMillis,
    terms: Terms,
    *,
    is_closed: bool,
    unstaged_count: int,
    uncollected_count: int,
) -> Ruling:
    """Whether the ``opening`` entry, the last of the log, may be written at ``now``.

    Nothing is admitted after that entry, so it waits for everything that could still come: for
    staging while a ticket is unstaged and ``stage_by`` lies ahead, and for collection while
    something staged is not collected and ``repair_by`` lies ahead. With ``sealed_until: none``
    it waits for ``repair_by`` always.

    Args:
        now: The destination's time.
        terms: The latest terms of the log.
        is_closed: Whether a ``closed`` entry stands after the last terms entry.
        unstaged_count: Tickets without k receipts known to the destination.
        uncollected_count: Staged submissions not yet durable at the destination.
    """
    waits = [(_after(latest_on_time(terms)), "the call takes tickets")]
    waits.append((unsealed_from(terms), "envelopes are sealed"))
    if unstaged_count:
        waits.append((_after(terms.stage_by), f"{unstaged_count} tickets are not staged"))
    if uncollected_count:
        what = f"{uncollected_count} staged submissions are not collected"
        waits.append((_after(terms.repair_by), what))
    if terms.sealed_until == "none":
        what = "repairs may arrive and envelopes are opened as they come"
        waits.append((_after(terms.repair_by), what))
    first, reason = max(waits, key=lambda wait: wait[0])
    if now < first:
        return Ruling(False, f"{reason} until {format_rfc3339(first)}", first)
    if not is_closed:
        return Ruling(False, "the log has no closed entry after its last terms entry", first)
    return Ruling(True, "the call is closed and nothing more can come", first)
