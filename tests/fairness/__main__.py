"""Measures what others feel of a greedy filer, a forger, and a crowd behind one address.

The server has a core to itself; the clients share the others, those who are watched before
those who disturb. Each scene is measured alone and disturbed in turn, and medians are compared.

Run as ``python -m tests.fairness [--rounds 3] [--seconds 4]``; exit 1 if somebody was starved.
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click

from bistro.crypto.keyfile import filer_public
from tests.bench.processes import CORES, Server, free_port, pinned, program, serving
from tests.bench.workplace import work_folder
from tests.fairness.load import GOOD, Found, Plan, key_of

ADDRESS_RATE: Final = 100
"""Tickets a second that one address may have: the share of which 50 times is asked."""

FILER_RATE: Final = 10
GREED: Final = 50
MODEST_COUNT: Final = 40
OFFICE_COUNT: Final = 200
_NICE: Final = -15
LIMIT: Final = 2.0
"""By how much the others' p99 may grow."""

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


@dataclass
class Tally:
    """What several rounds of the same came to."""

    found: list[Found] = field(default_factory=list)

    def percentiles(self, share: float) -> list[float]:
        """A percentile of each round, milliseconds."""
        return [sorted(one.took_ms)[int(share * (len(one.took_ms) - 1))] for one in self.found]

    def percentile(self, share: float) -> float:
        """The median over rounds of a percentile in each, milliseconds."""
        return statistics.median(self.percentiles(share))

    @property
    def best_p99(self) -> float:
        """Of the round that whatever else runs on this machine disturbed least."""
        return min(self.percentiles(0.99))

    @property
    def counts(self) -> Counter[str]:
        """Answers of all rounds by what they were."""
        counts: Counter[str] = Counter()
        for one in self.found:
            counts["asked"] += one.asked
            counts["tickets"] += len(one.took_ms)
            for status, count in one.by_status.items():
                if int(status) != GOOD:  # a key of JSON is text
                    counts[f"HTTP {status}"] += count
            counts.update(one.by_code)
            counts["lost"] += one.asked - sum(one.by_status.values())
        return +counts

    @property
    def late_ms(self) -> float:
        """By how much the generator was late at most."""
        return max(one.late_ms for one in self.found)


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


class Client:
    """A generator process, connected and waiting for its beginning."""

    def __init__(self, plan: Plan, file: Path) -> None:
        file.write_text(plan.encode(), encoding="utf-8")
        with pinned(CORES.load):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fairness.load", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

    def await_connected(self) -> None:
        """Return when it may begin."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "connected\n":
            raise click.ClickException("a generator could not connect")

    def begin(self) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def found(self) -> Found:
        """What it found, at its end."""
        out, _ = self._process.communicate()
        return Found(**json.loads(out))


def measure(scene: Scene, folder: Path, seed: int, *, is_disturbed: bool) -> tuple[Found, ...]:
    """One round: what those watched found, and those who disturbed."""
    plans = [scene.watched, *(scene.disturbing if is_disturbed else ())]
    clients = [
        Client(replace(plan, seed=seed + at, is_watched=not at), folder / f"plan-{at}.json")
        for at, plan in enumerate(plans)
    ]
    for client in clients:
        client.await_connected()
    for client in clients:
        client.begin()
    return tuple(client.found() for client in clients)


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
    command = program("bistro-server", "serve", "--dir", folder)
    with serving(command, port=port, log=work / "log", environment=SETTINGS) as found:
        with contextlib.suppress(PermissionError):
            # Before whatever else this machine does, alone and disturbed alike; each thread
            # has a priority of its own.
            for task in Path(f"/proc/{found.process.pid}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(task.name), _NICE)
        yield found, hashes


def tell(scene: Scene, alone: Tally, beside: Tally, disturbers: Tally) -> bool:
    """Print what a scene came to; whether nobody was starved."""
    ratio = beside.percentile(0.99) / alone.percentile(0.99)
    best = beside.best_p99 / alone.best_p99
    is_served = set(beside.counts) == {"asked", "tickets"}
    is_fair = is_served and (ratio <= LIMIT or not scene.has_limit)
    click.echo(f"\n{scene.name}")
    for name, tally in (("alone", alone), ("disturbed", beside)):
        times = "  ".join(
            f"{label} {tally.percentile(share):7.2f} ms"
            for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        )
        click.echo(f"  {name:<10} {times}  best p99 {tally.best_p99:7.2f} ms")
        click.echo(f"  {'':<10} {_shown(tally.counts)}")
    click.echo(f"  disturbers {_shown(disturbers.counts)}")
    wanted = f"at most {LIMIT}" if scene.has_limit else "all are to be served"
    verdict = "kept" if is_fair else "MISSED"
    late_ms = max(alone.late_ms, beside.late_ms)
    click.echo(f"  p99 disturbed / alone {ratio:.2f}, best rounds {best:.2f}; {wanted}: {verdict}")
    click.echo(f"  watched requests were sent late by at most {late_ms:.1f} ms")
    return is_fair


def _shown(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Rounds of each, in turn.")
@click.option("--seconds", default=4.0, show_default=True, help="Of a round.")
def main(rounds: int, seconds: float) -> None:
    """Measure all scenes."""
    is_fair = True
    with work_folder() as work, server(work) as (found, hashes):
        for scene in scenes(found.port, hashes, seconds):
            alone, beside, disturbers = Tally(), Tally(), Tally()
            for number in range(rounds):
                alone.found += measure(scene, work, 10 * number, is_disturbed=False)
                mine, *others = measure(scene, work, 10 * number + 5, is_disturbed=True)
                beside.found.append(mine)
                disturbers.found += others
                found.require_alive()
            is_fair = tell(scene, alone, beside, disturbers) and is_fair
    sys.exit(0 if is_fair else 1)


if __name__ == "__main__":
    main()
