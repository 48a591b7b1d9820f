"""Shows the story on a terminal: one row for each filing, then one line for each promise."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bistro.protocol.deadline import latest_on_time
from tests.e2e.demo.drawing import size_text
from tests.e2e.demo.promises import Verdict
from tests.e2e.demo.story import FilingStory, Story

_SHOWN_FAULTS = 6
_MS_PER_S = 1_000


def show(console: Console, story: Story) -> None:
    """Print the table of filings and the list of promises."""
    console.print()
    console.print("ticket: before the deadline; staged, collected: after the call opened")
    console.print("verified: evidence of the filer, and of the destination")
    console.print(filings_table(story))
    console.print()
    for verdict in story.verdicts.all:
        _show_verdict(console, verdict)
    if story.is_clock_assumed:
        console.print()
        console.print(Text(story.clock_statement, style="yellow"))
    console.print()


def filings_table(story: Story) -> Table:
    """One row for each filing."""
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    table.add_column("filing", no_wrap=True)
    for name in ("size", "files", "ticket", "staged", "collected"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("opened", "verified"):
        table.add_column(name, no_wrap=True)
    for one in story.filings:
        table.add_row(*_row(story, one), style="" if one.ticket else "yellow")
    return table


def _row(story: Story, one: FilingStory) -> tuple[str, ...]:
    row = (one.label, size_text(one.filing.size), str(len(one.filing.files)))
    last = latest_on_time(story.terms) if story.terms else story.began_at
    if one.ticket is None:
        if one.refusal is None:
            return (*row, "no ticket", "", "", "", "")
        late_s = (one.refusal.time - last) / _MS_PER_S
        return (*row, f"{late_s:.1f} s late", "refused", "", "", "refusal")

    def since_opening(at: int | None) -> str:
        return "no" if at is None else f"{(at - story.began_at) / _MS_PER_S:.1f} s"

    good = one.is_own_evidence_good + one.is_inbox_evidence_good
    return (
        *row,
        f"{(last - one.ticket.time) / _MS_PER_S:.1f} s",
        since_opening(one.uploaded_at),
        since_opening(one.collected_at),
        "identical" if one.is_identical else one.outcome or "no",
        "both" if good == 2 else f"{good} of 2",
    )


def _show_verdict(console: Console, verdict: Verdict) -> None:
    mark, style = ("ok", "green") if verdict.is_kept else ("BROKEN", "bold red")
    console.print(Text.assemble((f"{mark:<8} ", style), verdict.promise.value))
    if verdict.detail:
        console.print(_indented(verdict.detail, "dim"))
    faults = list(verdict.faults[:_SHOWN_FAULTS])
    if len(verdict.faults) > _SHOWN_FAULTS:
        faults.append(f"and {len(verdict.faults) - _SHOWN_FAULTS} more")
    for fault in faults:
        console.print(_indented(fault, "red"))


def _indented(text: str, style: str) -> Padding:
    return Padding(Text(text, style=style), (0, 0, 0, 9))
