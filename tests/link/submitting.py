"""Submits over a shaped line until the filer is on time, and says how long that took.

The destination is a daemon in a process of its own, over TLS; the filer's part is the library
behind ``bistro submit``.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trustme

from bistro.api import routes
from bistro.clock import SystemClock
from bistro.crypto.signing import SigningKey
from bistro.net.session import Session
from bistro_client.home import Home
from bistro_client.listening import Notice, Task
from bistro_client.submitting import Submitter, Wish
from tests.support.town import environment, free_port, run, script

_UP_S: Final = 60


@dataclass(frozen=True, slots=True)
class Place:
    """A destination behind a line: where it listens, where it is said to be, whom to trust."""

    port: int
    line_port: int
    ca: Path
    host: str = "localhost"

    @property
    def url(self) -> str:
        """Where filers find it."""
        return f"https://{self.host}:{self.line_port}"

    def await_ready(self) -> None:
        """Wait until the call is served."""
        context = ssl.create_default_context(cafile=self.ca)
        path = routes.TERMS.path(call="spring")
        for _ in range(_UP_S * 10):
            with contextlib.suppress(OSError):
                url = f"https://{self.host}:{self.port}{path}"
                with urllib.request.urlopen(url, timeout=5, context=context):
                    return
            time.sleep(0.1)
        raise AssertionError("the destination does not serve its call")


@contextlib.contextmanager
def destination(root: Path, host: str = "") -> Iterator[Place]:
    """A destination that serves TLS and says that it is to be found behind the line.

    With ``host`` there is no line: it is found under that name.
    """
    authority = trustme.CA()
    certificate = authority.issue_cert(host or "localhost")
    chain, key, ca = root / "chain.pem", root / "key.pem", root / "ca.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    port = free_port()
    place = Place(port, port, ca, host) if host else Place(port, free_port(), ca)
    folder = root / "server"
    where = (f"--port={place.port}", f"--base-url={place.url}")
    run("bistro-server", "init", folder, "--name=permits.example", *where).require(0)
    relay = SigningKey.generate("anna.example").verifier.format()
    times = ("--closes=+5h", "--stage-by=+6h", "--repair-by=+7h", "--envelope-limit=20000000000")
    run(
        *("bistro-server", "call", "create", "spring", "--title=Spring", "-k", "1", "-n", "1"),
        *(*times, f"--relay=http://127.0.0.1:9={relay}", "--dir", folder),
    ).require(0)
    tls = {
        "BISTRO_SERVER_HTTP__CERTIFICATE_PATH": str(chain),
        "BISTRO_SERVER_HTTP__KEY_PATH": str(key),
    }
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [script("bistro-server"), "serve", "--dir", str(folder)],
            env=environment() | tls,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield place
    finally:
        process.terminate()
        process.wait(_UP_S)


@dataclass
class Stopwatch:
    """A listener that notes when something was told.

    Attributes:
        told: Seconds of the monotonic clock, by the notice's key.
        is_on_time: Set when the filer is.
    """

    told: dict[str, float] = field(default_factory=dict)
    is_on_time: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, notice: Notice) -> None:
        """Note the first of each kind."""
        self.told.setdefault(notice.key, time.monotonic())
        if notice.key == "on-time":
            self.is_on_time.set()

    def begin(self, task: Task, total: int) -> None:
        """Nothing."""

    def advance(self, task: Task, size: int) -> None:
        """Nothing."""

    def end(self, task: Task) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one submission.

    Attributes:
        to_terms: From the start until limits and deadline were shown.
        to_seal: From then until it was sealed.
        to_ticket: From then until it was on time, with the proof on disk.
    """

    to_terms: float
    to_seal: float
    to_ticket: float


async def submit_once(place: Place, root: Path, size: int) -> Took:
    """One filing of ``size`` bytes from an empty home, until it is on time."""
    home = root / "home"
    source = root / "source.bin"
    with source.open("wb") as file:
        file.truncate(size)
    watch = Stopwatch()
    began = time.monotonic()
    try:
        async with Session(ca_path=place.ca) as session:
            submitter = Submitter(Home(home), session, clock=SystemClock(), listener=watch)
            work = asyncio.ensure_future(  # noqa: TID251 - ended below
                submitter.submit(Wish(paths=(source,), url=place.url, call="spring"))
            )
            waiting = asyncio.ensure_future(watch.is_on_time.wait())  # noqa: TID251 - the same
            await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
            for task in (work, waiting):
                task.cancel()
            await asyncio.wait({work, waiting})
            if not watch.is_on_time.is_set():
                work.result()
    finally:
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
        source.unlink()
    told = watch.told
    return Took(
        told["deadline"] - began,
        told["sealed"] - told["deadline"],
        told["on-time"] - told["sealed"],
    )
