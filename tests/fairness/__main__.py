"""Measures what others feel of a greedy filer, a forger, and a crowd behind one address.

The server has a core to itself; the clients share the others, those who are watched before
those who disturb. Each scene is measured alone and disturbed in turn, and pairs are compared.

Run as ``python -m tests.fairness [--rounds 5] [--seconds 4] [--only NAME]``; exit 1 if somebody
was starved, or if that could not be measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from bistro.crypto.keyfile import filer_public
from tests.bench.processes import Server, free_port, program, serving
from tests.bench.workplace import work_folder
from tests.fairness.load import Plan, key_of
from tests.fairness.rounds import MAX_OTHERS, Tally, measure

ADDRESS_RATE: Final = 100
"""Tickets a second that one address may have: the share of which 50 times is asked."""

FILER_RATE: Final = 10
GREED: Final = 50
MODEST_COUNT: Final = 40
OFFICE_COUNT: Final = 200
_NICE: Final = -15
LIMIT: Final = 2.0
"""By how much the others' p99 may grow."""

MIN_PAIRS: Final = 3
"""Fewer pairs of rounds are no measurement."""

SETTINGS: Final = {
    "BISTRO_SERVER_CLOCK__ASSUMED_ERROR_MS": "50",
    "BISTRO_SERVER_LOG__LEVEL": "error",
    "BISTRO_SERVER_TICKETS__ADDRESS_RATE_PER_S": str(ADDRESS_RATE),
    "BISTRO_SERVER_TICKETS__ADDRESS_BURST_COUNT": "1000",
    "BISTRO_SERVER_TICKETS__FILER_RATE_PER_S": str(FILER_RATE),
    "BISTRO_SERVER_TICKETS__FILER_BURST_COUNT": "20",
}
MODEST: Final = [f"127.0.1.{number + 1}" for number in range(MODEST_COUNT)]
NAMES: Final = [f"filer {number}" for number in range(MODEST_COUNT)]


@dataclass(frozen=True)
class Scene:
    """What is measured.

    Attributes:
        name: In the table.
        watched: Whose waiting counts.
        disturbing: Who disturbs.
        has_limit: Whether their p99 may only double; else it counts that all are served.
    """

    name: str
    watched: Plan
    disturbing: tuple[Plan, ...]
    has_limit: bool = True


def scenes(port: int, hashes: dict[str, str], seconds: float) -> list[Scene]:
    """All of them."""
    modest = Plan(port, "anyone", hashes["anyone"], MODEST, 1, 25.0, seconds)
    greedy = replace(
        modest,
        addresses=["127.0.2.1"],
        connections=64,
        rate_per_s=GREED * ADDRESS_RATE / 64,
    )
    arrays = replace(greedy, connections=8, items=1_000, rate_per_s=GREED * ADDRESS_RATE / 8_000)
    office = replace(
        modest, addresses=["127.0.3.1"], connections=OFFICE_COUNT, rate_per_s=3 / seconds
    )
    filers = replace(modest, call="known", terms_hash=hashes["known"], filers=NAMES, rate_per_s=5.0)
    greedy_filer = replace(
        filers,
        addresses=[f"127.0.4.{number + 1}" for number in range(4)],
        filers=["greedy"],
        connections=4,
        rate_per_s=GREED * FILER_RATE / 16,
    )
    forger = replace(
        greedy_filer,
        addresses=["127.0.5.1"],
        filers=NAMES[:1],
        connections=64,
        is_forged=True,
        rate_per_s=2_000 / 64,
    )
    return [
        Scene("40 addresses, one greedy", modest, (greedy,)),
        Scene("40 addresses, one greedy with arrays", modest, (arrays,)),
        Scene("40 filers, one greedy", filers, (greedy_filer,)),
        Scene("40 filers, a forger", filers, (forger,)),
        Scene("call of anyone, a forger next door", modest, (forger,)),
        Scene("office of 200, one greedy", office, (greedy,), has_limit=False),
    ]


def operate(folder: Path, *arguments: str) -> str:
    """What a command of the server prints."""
    command = program("bistro-server", *arguments, "--dir", folder, "--json")
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    done = subprocess.run(["env", *settings, *command], capture_output=True, text=True, check=True)
    return done.stdout


@contextlib.contextmanager
def server(work: Path) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server with a call for anyone and one for registered filers, and the hashes of terms."""
    folder, port = work / "server", free_port()
    url = f"http://127.0.0.1:{port}"
    made = program("bistro-server", "init", folder, "--name", "fair.example")
    subprocess.run([*made, "--port", str(port), "--base-url", url], check=True, capture_output=True)
    hashes = {}
    for call, filers in (("anyone", "anyone"), ("known", "registered")):
        terms = operate(folder, "call", "create", call, "--title", call, "--closes", "+1h",
                        "--filers", filers)  # fmt: skip
        hashes[call] = json.loads(terms)["terms_hash"]
    rows = [
        json.dumps({"key": filer_public(key_of(name)).hex(), "name": name})
        for name in (*NAMES, "greedy")
    ]
    (work / "filers.jsonl").write_text("\n".join(rows), encoding="utf-8")
    operate(folder, "filers", "import", str(work / "filers.jsonl"))
    # A session of its own: where the kernel shares the machine among sessions first, priorities
    # count only within one.
    command = ["setsid", *program("bistro-server", "serve", "--dir", folder)]
    with serving(command, port=port, log=work / "log", environment=SETTINGS) as found:
        with contextlib.suppress(PermissionError):
            # Before whatever else this machine does, alone and disturbed alike; each thread
            # has a priority of its own.
            process = Path(f"/proc/{found.process.pid}")
            for task in (process / "task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(task.name), _NICE)
            if (group := process / "autogroup").exists():
                group.write_text(str(_NICE), encoding="ascii")
        yield found, hashes


def tell(scene: Scene, alone: Tally, beside: Tally) -> bool:
    """Print what a scene came to; whether nobody was starved, as far as that can be said."""
    click.echo(f"\n{scene.name}")
    for name, tally in (("alone", alone), ("disturbed", beside)):
        times = "  ".join(
            "{} {:.1f} ({:.1f}-{:.1f})".format(
                label, *(tally.spread(share)[at] for at in (1, 0, 2))
            )
            for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        )
        click.echo(f"  {name:<10} ms: {times}")
        shares = ", ".join(
            f"{one.percentile(0.99):.1f} ms {one.others:.0%} {one.waited:.0%}"
            for one in tally.rounds
        )
        click.echo(f"  {'':<10} p99, others' part of the core, server waited for it: {shares}")
        click.echo(f"  {'':<10} {_shown(tally.counts)}")
    click.echo(f"  disturbers {_shown(beside.disturbers)}")
    late_ms = max(alone.late_ms, beside.late_ms)
    click.echo(f"  watched requests were sent late by at most {late_ms:.1f} ms")
    if set(beside.counts) != {"asked", "tickets"}:
        click.echo("  not all who are watched were served: MISSED")
        return False
    if not scene.has_limit:
        click.echo("  all are served: kept")
        return True
    return _judge(alone, beside)


def _judge(alone: Tally, beside: Tally) -> bool:
    """Compare pairs of rounds in which the server had its core to itself."""
    ratios = [
        two.percentile(0.99) / one.percentile(0.99)
        for one, two in zip(alone.rounds, beside.rounds, strict=True)
        if max(one.others, two.others) <= MAX_OTHERS
    ]
    pairs = f"{len(ratios)} of {len(alone.rounds)} pairs of rounds count"
    if len(ratios) < MIN_PAIRS:
        click.echo(f"  {pairs}, {MIN_PAIRS} are needed: NOT MEASURED, this machine is busy")
        return False
    ratio = statistics.median(ratios)
    verdict = "kept" if ratio <= LIMIT else "MISSED"
    click.echo(
        f"  p99 disturbed / alone {ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f}), {pairs}; "
        f"at most {LIMIT}: {verdict}"
    )
    return ratio <= LIMIT


def _shown(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def run(scene: Scene, found: Server, work: Path, rounds: int) -> tuple[Tally, Tally]:
    """All rounds of a scene: alone and disturbed in turn, each first as often as the other.

    The first of each is not counted: files, pages and buckets are as later rounds find them only
    after it.
    """
    alone, beside = Tally(), Tally()
    for number in range(rounds + 1):
        order = (alone, beside) if number % 2 else (beside, alone)
        for tally in order:
            disturbing = scene.disturbing if tally is beside else ()
            # The same times for both of a pair.
            measured = measure(found, scene.watched, disturbing, work, 10 * number)
            if number:
                tally.rounds.append(measured)
    return alone, beside


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Pairs of rounds that count.")
@click.option("--seconds", default=4.0, show_default=True, help="Of a round.")
@click.option("--only", default="", help="Scenes whose names contain this.")
def main(rounds: int, seconds: float, only: str) -> None:
    """Measure all scenes."""
    is_fair = True
    with work_folder() as work, server(work) as (found, hashes):
        for scene in scenes(found.port, hashes, seconds):
            if only in scene.name:
                is_fair = tell(scene, *run(scene, found, work, rounds)) and is_fair
    sys.exit(0 if is_fair else 1)


if __name__ == "__main__":
    main()
