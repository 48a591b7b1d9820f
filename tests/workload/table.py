"""The numbers of a run, as rows for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from tests.workload.filings import filings_of
from tests.workload.judging import EDGE_MS, LATE_LIMIT_S, Spread
from tests.workload.profiles import PROFILES
from tests.workload.replay import Replay

_MB = 1_000_000
_PERCENT = 100
_US = 1_000_000


def rows(done: Replay) -> Iterator[tuple[str, str]]:
    """What there is to say, most important first."""
    verdict, run, cost = done.verdict, done.run, done.cost
    yield "filers who asked in time", f"{verdict.in_time:,}"
    yield "tickets", f"{verdict.tickets:,}"
    yield "time to ticket", spread_text(verdict.ticket_time)
    if verdict.edge:
        yield (
            f"asked in the last {EDGE_MS} ms of the grace",
            f"{verdict.edge:,}, of whom {verdict.edge_refused:,} arrived after it",
        )
    if verdict.refused or verdict.unanswered:
        yield (
            "asked after the grace",
            f"{verdict.refused:,} hold a signed refusal, {verdict.unanswered:,} nothing",
        )
    postponed = ", ".join(f"{code} {count:,}" for code, count in sorted(run.postponed.items()))
    yield "asked more than once", f"{verdict.again:,}{f' ({postponed})' if postponed else ''}"
    if cost.down is not None:
        down_s, up_s = cost.down
        yield "time to ticket, asked of a living server", spread_text(_while_up(done, cost.down))
        yield "nobody listened", f"from {down_s:.2f} s to {up_s:.2f} s, for {up_s - down_s:.2f} s"
    if run.reads:
        answers = ", ".join(f"{status or 'none'}: {n:,}" for status, n in sorted(run.reads.items()))
        yield "status reads, by answer", answers
        yield "time to status", spread_text(Spread.of(run.reads_s))
    per_ticket = cost.server_s / max(1, verdict.tickets) * _US
    yield (
        "server",
        f"{per_ticket:,.0f} us of CPU a ticket, its core {cost.core * _PERCENT:.0f} % busy",
    )
    size = sum(filing.size for filing in filings_of(done.window, done.wish.seed))
    yield "data that can follow later", f"{size / _MB:,.0f} MB, none of it sent here"
    yield (
        "in the log afterwards",
        f"{verdict.log_size:,} entries, root recomputed; every ticket looked up",
    )
    yield "signatures and paths verified", f"{verdict.sampled:,} promises"
    yield (
        f"generator late (bound {LATE_LIMIT_S * 1_000:.0f} ms)",
        f"{spread_text(verdict.lateness)}, {run.busy * _PERCENT:.0f} % of its core",
    )


def _while_up(done: Replay, down: tuple[float, float]) -> Spread:
    """Of those who began to ask while somebody listened: what the storm did to them."""
    down_s, up_s = down
    return Spread.of(
        [
            done.rules.waited_s(record)
            for record in done.run.records
            if record.answer == "ticket" and not down_s <= record.due_s < up_s
        ]
    )


def spread_text(spread: Spread) -> str:
    """Quantiles in milliseconds."""
    shown = (spread.p50, spread.p99, spread.p999, spread.longest)
    names = ("p50", "p99", "p99.9", "max")
    return ", ".join(f"{name} {1_000 * x:,.1f} ms" for name, x in zip(names, shown, strict=True))


def headline(done: Replay) -> str:
    """The verdict in one sentence."""
    verdict = done.verdict
    if verdict.faults:
        return f"Profile {done.wish.profile}: BROKEN"
    if not verdict.is_valid:
        return f"Profile {done.wish.profile}: INVALID, the generator was late"
    return f"Profile {done.wish.profile}: nobody late of {verdict.in_time:,} who asked in time"


def subtitle(done: Replay) -> str:
    """What was replayed."""
    wish, profile = done.wish, PROFILES[done.wish.profile]
    return (
        f"{profile.title}, {profile.count:,} filings in all; {done.window.length_s} s of them, "
        f"scale {wish.scale:g}, seed {wish.seed}; the peak to meet: {profile.peak}"
    )


def show(console: Console, done: Replay) -> None:
    """Print everything."""
    table = Table(title=headline(done), caption=subtitle(done), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in rows(done):
        table.add_row(name, value)
    console.print(table)
    for fault in done.verdict.faults:
        console.print(f"broken: {fault}", style="red", markup=False)
    for note in done.notes:
        console.print(f"note: {note}", markup=False)
