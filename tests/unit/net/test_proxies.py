"""Filers behind proxies: the environment is believed, and never for this machine."""

from __future__ import annotations

import pytest
from aiohttp import web

from bistro.errors import SettingsError, UnavailableError
from bistro.net.session import Session
from tests.unit.client.relays import served

TARGET = "http://permits.example/.well-known/bistro.json"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def proxy(request: web.Request) -> web.Response:
    """Says what it was asked for."""
    return web.Response(text=str(request.url))


async def test_the_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the whole address; the host need not be known here."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy)
    async with served(app) as url, Session(allow_http=True, use_proxies=True) as session:
        monkeypatch.setenv("http_proxy", url)
        answer = await session.ask("GET", TARGET)
        assert answer.body.decode() == TARGET


async def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test server on loopback, say, whatever the environment names."""
    app = web.Application()
    app.router.add_get("/here", proxy)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with served(app) as url, Session(use_proxies=True) as session:
        assert (await session.ask("GET", f"{url}/here")).status == 200


async def test_daemons_use_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not asked for is not done."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with Session(allow_http=True) as session:
        with pytest.raises(UnavailableError) as caught:
            await session.ask("GET", "http://permits.invalid/")
        assert "proxy" not in caught.value.message


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("http://127.0.0.1:9", UnavailableError, "the proxy 127.0.0.1 cannot be reached"),
        ("socks5://127.0.0.1:9", UnavailableError, "the proxy 127.0.0.1 cannot be reached"),
        ("ftp://127.0.0.1:9", SettingsError, "expected an http:// or socks5:// address"),
    ],
)
async def test_a_bad_proxy_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, error: type[Exception], words: str
) -> None:
    """With the variables to look at."""
    monkeypatch.setenv("http_proxy", value)
    async with Session(allow_http=True, use_proxies=True) as session:
        with pytest.raises(error, match=words) as caught:
            await session.ask("GET", TARGET)
        assert "NO_PROXY" in getattr(caught.value, "hint", "")


async def test_an_exception_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """``NO_PROXY`` names who is reached without it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "permits.invalid")
    async with Session(allow_http=True, use_proxies=True) as session:
        with pytest.raises(UnavailableError, match=r"permits\.invalid") as caught:
            await session.ask("GET", "http://permits.invalid/")
        assert "proxy" not in caught.value.message
