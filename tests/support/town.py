"""One destination and three relays in processes of their own: what ``bistro`` talks with.

Everything is started as people do, by the installed console scripts, on loopback. Where a test
wants a wrong clock, the process reads one from ``tests/support/shifted``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bistro.api import routes

RELAYS: Final = ("amber.example", "birch.example", "cedar.example")
_SHIFTED: Final = Path(__file__).with_name("shifted")


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def require(self, code: int, *words: str) -> Ran:
        """That exit code; if it is an error, two lines with these words, and no traceback."""
        assert self.code == code, self
        assert "Traceback" not in self.err
        if code:
            message, step = self.err.strip().splitlines()[-2:]
            assert message.startswith("error: "), self
            assert step.startswith("next: "), self
            assert len(step) > len("next: "), self
        for word in words:
            assert word in self.out + self.err, self
        return self


def run(*arguments: object, shift_ms: int | None = None, prefix: tuple[str, ...] = ()) -> Ran:
    """Run a console script to its end."""
    program, *others = map(str, arguments)
    finished = subprocess.run(
        [*prefix, script(program), *others],
        env=environment(shift_ms),
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    return Ran(finished.returncode, finished.stdout, finished.stderr)


def script(program: str) -> str:
    """The console script that belongs to the Python of this test."""
    return str(Path(sys.executable).with_name(program))


def environment(shift_ms: int | None = None) -> dict[str, str]:
    """What every process gets: a clock error that is assumed openly, and perhaps a wrong clock."""
    inherited = os.environ  # noqa: TID251 - for the processes, not for us
    usual = {key: value for key, value in inherited.items() if not key.startswith("BISTRO")}
    usual |= {"TZ": "UTC", "COLUMNS": "200"}
    for program in ("SERVER", "RELAY"):
        usual[f"BISTRO_{program}_CLOCK__ASSUMED_ERROR_MS"] = "50"
        usual[f"BISTRO_{program}_CLOCK__ERROR_LIMIT_MS"] = "1000"
    usual["BISTRO_SERVER_DISK__MIN_FREE_BYTES"] = usual["BISTRO_RELAY_LIMITS__RESERVE_BYTES"] = "0"
    if shift_ms is not None:
        usual |= {"TEST_SHIFT_MS": str(shift_ms), "PYTHONPATH": str(_SHIFTED)}
    return usual


@dataclass
class Site:
    """A daemon's folder, port and process."""

    program: str
    root: Path
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self, *, shift_ms: int | None = None) -> None:
        """Start it; ``await_ready`` says when it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [script(self.program), "serve", "--dir", str(self.root)],
                env=environment(shift_ms),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def await_ready(self) -> None:
        """Wait until it listens."""
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port)):
                return
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-2_000:]
            time.sleep(0.05)
        raise AssertionError(f"{self.program} does not listen")

    def await_page(self, path: str) -> None:
        """Wait until it answers a GET with 200: a new call is taken up at its next round."""
        for _ in range(600):
            connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
            with contextlib.closing(connection), contextlib.suppress(OSError):
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{self.program} does not serve {path}")

    def stop(self) -> int:
        """End it as an operator does; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)


@dataclass
class Town:
    """One destination, three relays, one call that is open for an hour."""

    root: Path
    server: Site
    relays: list[Site] = field(default_factory=list)
    vkey: str = ""

    def home(self, name: str) -> Path:
        return self.root / "homes" / name

    def submit(self, home: str, *paths: object, url: str | None = None, **options: object) -> Ran:
        """Submit to the call; ``shift_ms`` is the filer's wrong clock."""
        shift_ms = options.pop("shift_ms", None)
        assert shift_ms is None or isinstance(shift_ms, int)
        wanted = {"call": "spring", "patience": "1s", **options}
        more = [text for key, value in wanted.items() for text in (f"--{key}", value) if value]
        where = ("--to", url or self.server.url, "--home", self.home(home))
        return run("bistro", "submit", *paths, *where, *more, shift_ms=shift_ms)

    def submission(self, home: str) -> Path:
        """The only submission of a home."""
        (found,) = (self.home(home) / "submissions").iterdir()
        return found

    def state(self, home: str) -> str:
        journal = json.loads((self.submission(home) / "journal.json").read_bytes())
        return str(journal["state"])

    def operate(self, *arguments: object, shift_ms: int | None = None) -> Ran:
        """A command of the destination's operator."""
        return run("bistro-server", *arguments, "--dir", self.server.root, shift_ms=shift_ms)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def found(
    root: Path, program: str, name: str, *options: str, host: str = "127.0.0.1"
) -> tuple[Site, str]:
    """Make a daemon's folder; the daemon and its vkey."""
    site = Site(program, root / name, free_port(), root / f"{name}.log", host=host)
    where = (f"--host={host}", f"--port={site.port}", f"--base-url={site.url}")
    made = run(program, "init", site.root, f"--name={name}", *where, *options).require(0)
    words = made.out.split()
    return site, words[words.index("vkey") + 1]


def _join(town: Town, name: str) -> Site:
    """A relay that allows the destination."""
    host = town.server.host
    relay, _ = found(town.root, "bistro-relay", name, f"--operator={name}", host=host)
    if host != "127.0.0.1":
        settings = relay.root / "bistro-relay.toml"
        text = settings.read_text(encoding="utf-8")
        settings.write_text(text.replace("[terms]\n", "[terms]\nallow_http = true\n"))
    where = ("--trust", town.vkey, "--dir", relay.root)
    run("bistro-relay", "allow", town.server.url, *where).require(0)
    return relay


@contextlib.contextmanager
def running_town(root: Path, *, host: str = "127.0.0.1") -> Iterator[Town]:
    """Everything runs and a call is open; afterwards no process is left.

    ``host`` is an address of this machine; other than on loopback plain HTTP is allowed.
    """
    server, vkey = found(root, "bistro-server", "permits.example", host=host)
    here = Town(root, server, vkey=vkey)
    try:
        server.start()
        server.await_ready()
        with ThreadPoolExecutor() as side_by_side:
            here.relays += side_by_side.map(lambda name: _join(here, name), RELAYS)
        for relay in here.relays:
            relay.start()
        for relay in here.relays:
            relay.await_ready()
        times = ("--closes=+1h", "--stage-by=+2h", "--repair-by=+3h", "--sealed-until=closes")
        relays = [f"--relay={relay.url}" for relay in here.relays]
        if host != "127.0.0.1":
            relays.append("--allow-http")
        here.operate("call", "create", "spring", "--title=Spring", *times, *relays).require(0)
        server.await_page(routes.TERMS.path(call="spring"))
        yield here
    finally:
        for site in (server, *here.relays):
            if site.process is not None and site.process.poll() is None:
                site.process.kill()
                site.process.wait(30)
