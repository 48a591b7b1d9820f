"""Filers behind corporate proxies: HTTP CONNECT and SOCKS, through real proxy programs.

The destination serves TLS under this machine's host name: for loopback no proxy is asked.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from bistro.errors import UnavailableError
from bistro.net.session import Session
from tests.link.submitting import destination
from tests.support.town import environment, free_port, script

pytestmark = pytest.mark.e2e

NAME = socket.gethostname()
"""This machine, by a name that a client does not take for loopback."""
SIZE = 3_000_000
WORD = "secret"


@dataclass(frozen=True)
class Proxy:
    """A proxy program: how it is started, and how it is asked; {port} is where."""

    command: tuple[str, ...]
    url: str

    def listening(self, port: int, folder: Path) -> list[str]:
        config = folder / "proxy.conf"
        config.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\n")
        found = [part.format(port=port, config=config) for part in self.command]
        return [shutil.which(found[0]) or found[0], *found[1:]]


PYTHON = (
    sys.executable,
    "-c",
    # It looks for a loop that newer Pythons do not make by themselves, and uvloop never does.
    (
        "import asyncio, sys; sys.modules['uvloop'] = None; "
        "asyncio.set_event_loop(asyncio.new_event_loop()); from pproxy.server import main; main()"
    ),
    "-l",
)
PROXIES = {
    "pproxy, CONNECT": Proxy((*PYTHON, "http://127.0.0.1:{port}"), "http://127.0.0.1:{port}"),
    "pproxy, CONNECT with a password": Proxy(
        (*PYTHON, f"http://127.0.0.1:{{port}}#ada:{WORD}"), f"http://ada:{WORD}@127.0.0.1:{{port}}"
    ),
    "pproxy, SOCKS5": Proxy((*PYTHON, "socks5://127.0.0.1:{port}"), "socks5h://127.0.0.1:{port}"),
    "tinyproxy": Proxy(("tinyproxy", "-d", "-c", "{config}"), "http://127.0.0.1:{port}"),
    "microsocks": Proxy(
        ("microsocks", "-i", "127.0.0.1", "-p", "{port}"), "socks5://127.0.0.1:{port}"
    ),
    "microsocks with a password": Proxy(
        ("microsocks", "-i", "127.0.0.1", "-p", "{port}", "-u", "ada", "-P", WORD),
        f"socks5://ada:{WORD}@127.0.0.1:{{port}}",
    ),
}


@contextlib.contextmanager
def running(proxy: Proxy, folder: Path) -> Iterator[str]:
    """The proxy's URL, for as long as the block."""
    try:
        socket.getaddrinfo(NAME, None)
    except OSError:
        pytest.skip(f"{NAME}, the name of this machine, leads nowhere")
    if shutil.which(proxy.command[0]) is None:
        pytest.skip(f"{proxy.command[0]} is not installed")
    port = free_port()
    command = proxy.listening(port, folder)
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield proxy.url.format(port=port)
    finally:
        process.kill()
        process.wait(30)


@dataclass
class Served:
    """An HTTPS server under ``NAME``, and how many bytes it was sent."""

    url: str
    ca: Path
    received: int = 0

    async def take(self, request: web.Request) -> web.Response:
        async for chunk in request.content.iter_any():
            self.received += len(chunk)
        return web.Response(text="taken")


@contextlib.asynccontextmanager
async def tls_server(folder: Path) -> AsyncIterator[Served]:
    authority = trustme.CA()
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(NAME).configure_cert(context)
    found = Served("", ca)
    app = web.Application(client_max_size=2**30)
    app.router.add_put("/", found.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0, ssl_context=context).start()
    found.url = f"https://{NAME}:{runner.addresses[0][1]}/"
    try:
        yield found
    finally:
        await runner.cleanup()


@pytest.fixture(params=PROXIES, ids=list(PROXIES))
def proxy(request: pytest.FixtureRequest) -> Proxy:
    return PROXIES[request.param]


async def test_an_upload_goes_through_the_proxy_and_not_without(
    tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS ends at the server, whatever stands between; a proxy that is gone is named."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(SIZE // 100_000):
            yield bytes(100_000)

    async with tls_server(tmp_path) as server:
        with running(proxy, tmp_path) as url:
            # First of all, since that proxy knows an address for long by its first password.
            if WORD in url:
                monkeypatch.setenv("ALL_PROXY", url.replace(WORD, "wrong"))
                async with Session(ca_path=server.ca, use_proxies=True) as session:
                    with pytest.raises(UnavailableError, match="proxy") as refused:
                        await session.ask("PUT", server.url, body=b"x")
                assert "NO_PROXY" in refused.value.hint
                assert "wrong" not in refused.value.message
            monkeypatch.setenv("ALL_PROXY", url)
            async with Session(ca_path=server.ca, use_proxies=True) as session:
                answer = await session.ask("PUT", server.url, body=pieces())
                assert answer.body == b"taken"
                assert server.received == SIZE
            async with Session(use_proxies=True) as stranger:
                with pytest.raises(UnavailableError, match="certificate is not trusted"):
                    await stranger.ask("PUT", server.url, body=b"x")
        async with Session(ca_path=server.ca, use_proxies=True) as session:
            with pytest.raises(UnavailableError, match=r"the proxy .* cannot be reached") as gone:
                await session.ask("PUT", server.url, body=b"x")
        assert "NO_PROXY" in gone.value.hint
        assert server.received == SIZE


@pytest.mark.parametrize("name", ["pproxy, CONNECT", "pproxy, SOCKS5"])
def test_a_filer_behind_a_proxy_is_on_time(tmp_path: Path, name: str) -> None:
    """The program as a filer starts it, with the variable that the system's people set."""
    (tmp_path / "report.txt").write_text("on time\n")
    options = ("--home", str(tmp_path / "home"), "--patience", "1s")
    with destination(tmp_path, host=NAME) as place, running(PROXIES[name], tmp_path) as url:
        place.await_ready()
        ran = subprocess.run(
            [
                *(script("bistro"), "submit", str(tmp_path / "report.txt"), "--to", place.url),
                *("--ca-file", str(place.ca), *options),
            ],
            env=environment() | {"ALL_PROXY": url, "NO_PROXY": "", "no_proxy": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert "YOU ARE ON TIME" in ran.stdout, ran
    # No relay of this call answers: on time, and to be resumed.
    assert ran.returncode == 5, ran
