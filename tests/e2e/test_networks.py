"""A filer's machine in a network namespace: the line goes down, the address changes, it sleeps.

The namespace is made here, with a thin line to this one; the destination and its relays are
processes on this side. Where no namespace may be made, these tests say so and are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kills.auditing import relay_held
from tests.support.town import Town, environment, running_town, script

pytestmark = pytest.mark.e2e

SIZE = 6_000_000
RATE = "8mbit"
AWAY_S = 6.0
LONGEST_S = 110.0


def command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=20)


@dataclass(frozen=True)
class Namespace:
    """The filer's side: a namespace, and its end of the line."""

    name: str
    link: str
    here: str
    there: tuple[str, str]

    def ip(self, *words: str) -> None:
        command("ip", "-n", self.name, *words)

    def down(self) -> None:
        self.ip("link", "set", self.link, "down")

    def up(self) -> None:
        self.ip("link", "set", self.link, "up")

    def move(self) -> None:
        """Another address, as in another network."""
        self.ip("addr", "flush", "dev", self.link)
        self.ip("addr", "add", self.there[1], "dev", self.link)

    def come_home(self) -> None:
        """The first address again."""
        self.ip("addr", "flush", "dev", self.link)
        self.ip("addr", "add", self.there[0], "dev", self.link)


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace with a thin line to this one; it is gone afterwards, with the line."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        pytest.skip("ip and tc are not installed (Debian: iproute2)")
    number = os.getpid() % 60_000
    net = f"10.{77 + number % 100}.{number % 250}"
    made = Namespace(
        f"bistro-{number}", f"bf{number}", f"{net}.1/24", (f"{net}.2/24", f"{net}.3/24")
    )
    try:
        command("ip", "netns", "add", made.name)
    except subprocess.CalledProcessError as exc:
        pytest.skip(f"no network namespace can be made here: {exc.stderr.decode().strip()}")
    try:
        peer = f"bh{number}"
        command("ip", "link", "add", peer, "type", "veth", "peer", "name", made.link)
        command("ip", "link", "set", made.link, "netns", made.name)
        command("ip", "addr", "add", made.here, "dev", peer)
        command("ip", "link", "set", peer, "up")
        made.come_home()
        made.ip("link", "set", "lo", "up")
        made.up()
        shape = ("root", "tbf", "rate", RATE, "burst", "16kb", "latency", "100ms")
        command("ip", "netns", "exec", made.name, "tc", "qdisc", "add", "dev", made.link, *shape)
        yield made
    finally:
        command("ip", "netns", "del", made.name)


@dataclass
class Filer:
    """``bistro submit`` at work in the namespace."""

    process: subprocess.Popen[bytes]
    log: Path

    def await_words(self, words: str) -> None:
        for _ in range(1_200):
            if words in self.log.read_text():
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"{words} was never said: {self.log.read_text()}")

    def ended(self) -> int:
        return self.process.wait(LONGEST_S)


@contextlib.contextmanager
def submitting(town: Town, net: Namespace, home: str) -> Iterator[Filer]:
    source, log = town.root / f"{home}.bin", town.root / f"{home}.log"
    source.write_bytes(os.urandom(SIZE))
    words = ("submit", str(source), "--to", town.server.url, "--call", "spring", "--allow-http")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", net.name, script("bistro")),
                *(*words, "--home", str(town.home(home))),
            ],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield Filer(process, log)
    finally:
        process.kill()
        process.wait(30)


def line_down(filer: Filer, net: Namespace) -> None:
    net.down()
    time.sleep(AWAY_S)
    net.up()


def another_address(filer: Filer, net: Namespace) -> None:
    net.down()
    net.move()
    net.up()


def asleep_and_elsewhere(filer: Filer, net: Namespace) -> None:
    filer.process.send_signal(signal.SIGSTOP)
    net.down()
    time.sleep(AWAY_S)
    net.move()
    net.up()
    filer.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Namespace, Town]]:
    root = tmp_path_factory.mktemp("networks")
    with namespace() as net, running_town(root, host=net.here.partition("/")[0]) as town:
        yield net, town


@pytest.mark.timeout(240)
@pytest.mark.parametrize("change", [line_down, another_address, asleep_and_elsewhere])
@pytest.mark.parametrize("moment", ["before the ticket", "in the middle of fragments"])
def test_a_submission_survives_what_happens_to_the_network(
    place: tuple[Namespace, Town], change: Callable[[Filer, Namespace], None], moment: str
) -> None:
    """Staged by the same process: one ticket, one identity, three fragments, each once."""
    net, town = place
    home = f"{change.__name__}-{moment.split(maxsplit=1)[0]}"
    net.come_home()
    held = relay_held(town)
    with submitting(town, net, home) as filer:
        filer.await_words("closes " if moment == "before the ticket" else "YOU ARE ON TIME")
        if moment != "before the ticket":
            time.sleep(1.0)
        change(filer, net)
        assert filer.ended() == 0, filer.log.read_text()
        told = filer.log.read_text()
        assert told.count("YOU ARE ON TIME") == 1
        assert told.count("STAGED: ") == 1
        journal = json.loads((town.submission(home) / "journal.json").read_bytes())
        assert journal["state"] == "staged"
        assert all(one["receipt"] for one in journal["fragments"])
        assert relay_held(town) - held == len(journal["fragments"])
