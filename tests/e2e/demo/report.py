"""The report: one HTML file that needs no network, no script and no colour to be understood."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from bistro import __version__
from bistro.instant import UnixMillis, format_rfc3339
from bistro.protocol.deadline import latest_on_time
from tests.e2e.demo.charts import (
    axis_of,
    before_deadline,
    destination_rates,
    rates_of,
    relay_rates,
    timeline,
)
from tests.e2e.demo.drawing import STEP_MS, Axis, rate_text, size_text
from tests.e2e.demo.promises import Promise, Verdict
from tests.e2e.demo.scenes import PACE
from tests.e2e.demo.story import FilingStory, Story
from tests.e2e.demo.style import CSS

_MS_PER_S: Final = 1_000
_STEPS_A_ROW: Final = _MS_PER_S // STEP_MS


def render(story: Story) -> str:
    """The whole page."""
    title = _headline(story)
    body = "".join(
        (
            _head(story, title),
            _key_figures(story),
            _promises(story),
            _figure_section(story),
            _filings(story),
            _method(story),
        )
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _headline(story: Story) -> str:
    broken = sum(not verdict.is_kept for verdict in story.verdicts.all)
    if not broken:
        return f"Bistro demo: all {len(Promise)} promises kept"
    return f"Bistro demo: {broken} of {len(Promise)} promises BROKEN"


def _head(story: Story, title: str) -> str:
    took_s = ((story.ended_at or story.began_at) - story.began_at) / _MS_PER_S
    kind = "kept" if story.verdicts.are_kept else "broken"
    accident = ""
    busy = ""
    if story.slowness > 1:
        busy = (
            '<p class="note"><strong>A busy machine.</strong> Starting the programs took long, so '
            f"all times of the call were stretched by {story.slowness:.1f}.</p>"
        )
    if story.accident:
        accident = f'<p class="note broken">The demo stopped early: {escape(story.accident)}</p>'
    label = "Assumed clock error" if story.is_clock_assumed else "Clock"
    return (
        f'<h1 class="{kind}">{escape(title)}</h1>'
        f'<p class="soft">{format_rfc3339(story.began_at)}, Bistro {escape(__version__)}, filings '
        f"from seed {story.seed}; {took_s:.0f} s from the opening of the call to the last check. "
        "One destination, three relays, eight filers' clients that stay and nine runs of "
        "<code>bistro submit</code>: real processes on loopback.</p>"
        f"{accident}{busy}"
        f'<p class="note"><strong>{label}.</strong> {escape(story.clock_statement)}</p>'
    )


def _key_figures(story: Story) -> str:
    measured, direct = rates_of(story, axis_of(story))
    spare = [_spare_s(story, one) for one in story.on_time if one.ticket is not None]
    good = sum(one.is_own_evidence_good + one.is_inbox_evidence_good for one in story.on_time)
    last_s = min(spare, default=0)
    peak = rate_text(max(direct))
    items = {
        f"filings with a ticket in time, the last {last_s:.1f} s before the deadline": (
            f"{len(spare)} of {len(story.on_time)}"
        ),
        f"had reached the destination by the deadline, for {size_text(story.size)} filed": (
            size_text(before_deadline(story))
        ),
        f"at most arrived at the destination; by direct upload {peak}, as computed": (
            rate_text(max(measured))
        ),
        "evidence files verified offline": f"{good} of {2 * len(story.on_time)}",
    }
    cells = "".join(
        f"<li><b>{escape(x)}</b><span>{escape(y)}</span></li>" for y, x in items.items()
    )
    return f'<ul class="figures">{cells}</ul>'


def _promises(story: Story) -> str:
    rows = [_promise_row(verdict) for verdict in story.verdicts.all]
    table = _table("Every promise that was checked", ("", "promise", "how it was seen"), rows)
    return f'<h2>Promises</h2><div class="promises">{table}</div>'


def _promise_row(verdict: Verdict) -> list[str]:
    mark = "ok" if verdict.is_kept else "BROKEN"
    kind = "kept" if verdict.is_kept else "broken"
    faults = "".join(f"<li>{_words(fault)}</li>" for fault in verdict.faults[:20])
    more = len(verdict.faults) - 20
    faults += f"<li>and {more} more</li>" if more > 0 else ""
    how = f"{_words(verdict.detail)}{f'<ul>{faults}</ul>' if faults else ''}"
    return [f'<span class="verdict {kind}">{mark}</span>', escape(verdict.promise.value), how]


def _words(text: str) -> str:
    """Text as HTML; what stands between backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{x}</code>" if at % 2 else x for at, x in enumerate(parts))


def _figure_section(story: Story) -> str:
    kill = story.kill
    killed = ""
    if kill is not None and kill.back_at is not None:
        match kill.resumed_from:
            case None:
                resumed = ", and the client took the fragment to another relay"
            case 0:
                resumed = ", and was sent all of it again"
            case offset:
                resumed = f", and the client went on at byte {offset:,}"
        killed = (
            f"<p>{escape(kill.relay)} was killed with <code>kill -9</code> when {kill.sent:,} of "
            f"{kill.size:,} bytes of an upload had passed. It was back "
            f"{(kill.back_at - kill.at) / _MS_PER_S:.1f} s later{resumed}.</p>"
        )
    return (
        "<h2>Tickets first, data afterwards</h2>"
        "<p>A filer is on time with the ticket. The data goes to relays as soon as it can, and "
        "the destination fetches it when the rush is over.</p>"
        f"{killed}{_scrolling(timeline(story))}"
        "<h2>What arrives at the destination</h2>"
        "<p>The dashed line is <strong>computed, not measured</strong>: the same filings at the "
        "same moments straight to the destination, each at the speed at which its fragments "
        "really flowed to the relays in this run. "
        f"With Bistro the destination chose to fetch at most {rate_text(PACE)}.</p>"
        f"{_scrolling(destination_rates(story))}"
        "<h2>What arrives at the relays</h2>"
        "<p>Any two of three fragments restore a filing, so relays receive half as much again as "
        "was filed.</p>"
        f"{_scrolling(relay_rates(story))}{_rates_table(story)}"
    )


def _rates_table(story: Story) -> str:
    axis = axis_of(story)
    measured, direct = rates_of(story, axis)
    span = {"begin": axis.begin, "end": axis.end}
    relays = [story.meter.rates(x.name, **span, step_ms=STEP_MS) for x in story.relays]
    rows: list[list[str]] = []
    for at in range(0, len(measured), _STEPS_A_ROW):
        cells = [f"{at // _STEPS_A_ROW}"]
        for series in (measured, direct, *relays):
            part = series[at : at + _STEPS_A_ROW]
            cells.append(f"{sum(part) * STEP_MS // _MS_PER_S:,}")
        rows.append(cells)
    names = [relay.name for relay in story.relays]
    columns = ("second", "destination, measured", "destination, direct, computed", *names)
    table = _table("Bytes in each second since the call opened", columns, rows, numbers=range(6))
    return f"<details><summary>The same as a table</summary>{table}</details>"


def _filings(story: Story) -> str:
    axis = axis_of(story)
    rows = [_filing_row(story, one, axis) for one in story.filings]
    columns = (
        *("filing", "size", "files", "began", "ticket", "before deadline", "uploaded"),
        *("collected", "opened", "identical", "evidence"),
    )
    caption = "Every filing; times in seconds since the call opened"
    return f"<h2>Filings</h2>{_table(caption, columns, rows, numbers=range(1, 8))}"


def _filing_row(story: Story, one: FilingStory, axis: Axis) -> list[str]:
    def since(at: UnixMillis | None) -> str:
        return "" if at is None else f"{(at - axis.begin) / _MS_PER_S:.2f}"

    row = [
        escape(one.label),
        size_text(one.filing.size),
        str(len(one.filing.files)),
        since(one.began_at),
    ]
    if one.refusal is not None and one.ticket is None:
        return [*row, "refused", f"{_late_s(story, one):.2f} s late", "", "", "", "", "verifies"]
    is_good = one.is_own_evidence_good and one.is_inbox_evidence_good
    return [
        *row,
        since(one.ticket.time if one.ticket else None),
        f"{_spare_s(story, one):.2f} s" if one.ticket else "no ticket",
        since(one.uploaded_at),
        since(one.collected_at),
        escape(one.outcome or "no"),
        "yes" if one.is_identical else "NO",
        "verifies" if is_good else "FAILS",
    ]


def _method(story: Story) -> str:
    network = (
        "in a network namespace without any network, not even loopback"
        if story.verified_without_network
        else "with networking possible, since this machine has no usable <code>unshare</code>"
    )
    return (
        "<h2>How this was measured</h2><ul>"
        "<li>All processes ran on this one machine, so times show the order of things and not "
        "what a network would do to them.</li>"
        "<li>Times of tickets, refusals and uploads are those in the signed tickets, refusals and "
        "receipts; a filing counts as collected when its envelope was complete on the "
        "destination's disk.</li>"
        "<li>Bytes were counted by a proxy in front of each daemon, requests and their heads "
        f"included, and averaged over {STEP_MS} ms. At the destination these are all requests to "
        "<code>bistro-server</code>, and all that relays sent to its collector.</li>"
        "<li>The direct upload is a computation: the bytes of the files alone, beginning when the "
        "filer began, at the speed of that filing's own uploads between its ticket and its last "
        "receipt. It leaves out what a real server would suffer besides: slow clients, retries, "
        "encryption.</li>"
        f"<li>Evidence was verified by <code>bistro verify</code> {network}, knowing nothing but "
        "the destination's terms key.</li>"
        "<li>What a relay held was searched byte by byte; each file, file name, folder and slot "
        "carries a mark that the same search found in the sources.</li></ul>"
    )


def _scrolling(svg: str) -> str:
    return f'<figure><div class="scroll" tabindex="0" role="group">{svg}</div></figure>'


def _table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Sequence[int] = (),
) -> str:
    """A table; cells are HTML, columns and caption text. The first column names its row."""

    def kind(at: int) -> str:
        return ' class="n"' if at in numbers else ""

    head = "".join(
        f'<th scope="col"{kind(at)}>{escape(name)}</th>' for at, name in enumerate(columns)
    )
    body: list[str] = []
    for first, *rest in rows:
        cells = (f"<td{kind(at)}>{cell}</td>" for at, cell in enumerate(rest, 1))
        body.append(f'<tr><th scope="row"{kind(0)}>{first}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _spare_s(story: Story, one: FilingStory) -> float:
    if story.terms is None or one.ticket is None:
        return 0.0
    return (latest_on_time(story.terms) - one.ticket.time) / _MS_PER_S


def _late_s(story: Story, one: FilingStory) -> float:
    if story.terms is None or one.refusal is None:
        return 0.0
    return (one.refusal.time - latest_on_time(story.terms)) / _MS_PER_S
