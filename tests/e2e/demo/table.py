"""Shows the story on a terminal: one row for each filing, then one line for each promise."""

from __future__ import annotations

from rich.console import Console
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
    console.print(filings_table(story))
    console.print()
    for verdict in story.verdicts.all:
        console.print(_line(verdict))
        for fault in verdict.faults[:_SHOWN_FAULTS]:
            console.print(Text(f"         {fault}", style="red"))
        more = len(verdict.faults) - _SHOWN_FAULTS
        if more > 0:
            console.print(Text(f"         and {more} more", style="red"))
    if story.is_clock_assumed:
        console.print()
        console.print(Text(story.clock_statement, style="yellow"))


def filings_table(story: Story) -> Table:
    """One row for each filing."""
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    table.add_column("filing", no_wrap=True)
    for name in ("size", "files", "ticket before deadline", "uploaded", "collected"):
        table.add_column(name, justify="right")
    for name in ("opened", "verified"):
        table.add_column(name)
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
        return (*row, f"refused, {late_s:.1f} s late", "", "", "", "refusal")

    def after_opening(at: int | None) -> str:
        return "no" if at is None else f"{(at - story.began_at) / _MS_PER_S:.1f} s"

    verified = [
        name
        for name, is_good in (
            ("filer's", one.is_own_evidence_good),
            ("inbox", one.is_inbox_evidence_good),
        )
        if is_good
    ]
    return (
        *row,
        f"{(last - one.ticket.time) / _MS_PER_S:.1f} s",
        after_opening(one.uploaded_at),
        after_opening(one.collected_at),
        "identical" if one.is_identical else one.outcome or "no",
        ", ".join(verified) or "no",
    )


def _line(verdict: Verdict) -> Text:
    mark, style = ("ok", "green") if verdict.is_kept else ("BROKEN", "bold red")
    text = Text(f"{mark:<8} ", style=style)
    text.append(verdict.promise.value, style="default not bold")
    if verdict.detail:
        text.append(f"\n         {verdict.detail}", style="dim not bold")
    return text
