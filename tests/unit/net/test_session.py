"""The session: what may be asked, and what every failure becomes."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bistro.api.problems import encode_problem, problem_headers
from bistro.api.routes import Route
from bistro.daemon.bodies import read_body
from bistro.daemon.listening import HttpPart, bind_tcp
from bistro.daemon.settings import HttpSettings
from bistro.daemon.web import Endpoint
from bistro.errors import (
    DeadlinePassedError,
    FormatError,
    OverloadedError,
    SettingsError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
)
from bistro.net.session import Session, Timeouts, require_usable_url
from tests.support.serving import http_part, running, serving, web_app

GET = Route("get", "GET", "/get")
POST = Route("post", "POST", "/post")


def answering(response: web.Response | Exception, route: Route = GET) -> Endpoint:
    async def handler(_: web.Request) -> web.Response:
        if isinstance(response, Exception):
            raise response
        return response

    return Endpoint(route, handler)


async def echo(request: web.Request) -> web.Response:
    body = await read_body(request, limit=10_000_000)
    return web.Response(body=body, headers={"X-Encoding": request.headers["Accept-Encoding"]})


async def test_an_answer_has_status_fields_and_body() -> None:
    """Compression is not asked for, so that sizes are what they seem."""
    async with serving(Endpoint(POST, echo)) as base, Session() as session:
        answer = await session.ask("POST", f"{base}/post", body=b"hello")
    assert (answer.status, answer.body, answer.headers["x-encoding"]) == (200, b"hello", "identity")


async def test_a_body_from_an_iterable_has_its_announced_length() -> None:
    """A fragment is read as the network takes it, and the relay knows its size beforehand."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 100_000

    async def length(request: web.Request) -> web.Response:
        body = await read_body(request, limit=2_000_000)
        return web.Response(text=f"{request.content_length} {len(body)}")

    async with serving(Endpoint(POST, length)) as base, Session() as session:
        headers = {"Content-Length": "1000000"}
        answer = await session.ask("POST", f"{base}/post", headers=headers, body=pieces())
    assert answer.body == b"1000000 1000000"


async def test_what_reading_the_body_raises_arrives_unchanged() -> None:
    """A disk that fails here is not a peer that cannot be reached."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        raise StorageError("cannot read fragment 1")

    async with serving(Endpoint(POST, echo)) as base, Session() as session:
        with pytest.raises(StorageError, match="fragment 1"):
            await session.ask("POST", f"{base}/post", body=pieces())


async def test_a_problem_document_becomes_the_error_it_names() -> None:
    """With hint and pause, as if it had been raised here."""
    async with (
        serving(
            answering(OverloadedError("many wait", hint="later", retry_after_s=3)),
            answering(DeadlinePassedError("closed at noon"), POST),
        ) as base,
        Session() as session,
    ):
        with pytest.raises(OverloadedError, match="many wait") as caught:
            await session.ask("GET", f"{base}/get")
        assert (caught.value.hint, caught.value.retry_after_s) == ("later", 3)
        with pytest.raises(DeadlinePassedError, match="closed at noon"):
            await session.ask("POST", f"{base}/post", body=b"")


async def test_the_disk_of_a_peer_is_not_our_disk() -> None:
    """A relay whose disk failed is a relay that cannot be used now; nobody else stops for it."""
    error = StorageError("no space left")

    async def failing(_: web.Request) -> web.Response:
        return web.Response(status=500, body=encode_problem(error), headers=problem_headers(error))

    async with serving(Endpoint(GET, failing)) as base, Session() as session:
        with pytest.raises(UnavailableError, match="no space left"):
            await session.ask("GET", f"{base}/get")


async def test_an_answer_to_head_is_judged_by_its_status() -> None:
    """HEAD has no body to hold a problem document."""
    async with serving(answering(OverloadedError("busy"))) as base, Session() as session:
        with pytest.raises(UnknownObjectError):
            await session.ask("HEAD", f"{base}/nothing")
        with pytest.raises(UnavailableError, match="HTTP 503"):
            await session.ask("HEAD", f"{base}/get")


async def test_an_answer_that_is_too_long_is_cut_off() -> None:
    """No peer fills our memory."""
    async with (
        serving(answering(web.Response(body=b"x" * 1_001))) as base,
        Session() as session,
    ):
        with pytest.raises(FormatError, match="at most 1000"):
            await session.ask("GET", f"{base}/get", limit=1_000)


async def test_redirects_are_not_followed() -> None:
    """A peer is who its URL says."""
    moved = web.Response(status=302, headers={"Location": "https://elsewhere.example/"})
    async with serving(answering(moved)) as base, Session() as session:
        with pytest.raises(UnavailableError, match="HTTP 302"):
            await session.ask("GET", f"{base}/get")


async def test_a_refused_connection_is_unavailable_and_says_where() -> None:
    """The peer is named, the path, which may hold a token, is not."""
    with bind_tcp(host="127.0.0.1", port=0) as closed:
        port = closed.getsockname()[1]
    async with Session() as session:
        with pytest.raises(UnavailableError, match=rf"127\.0\.0\.1:{port}") as caught:
            await session.ask("GET", f"http://127.0.0.1:{port}/secret-token")
    assert "secret" not in caught.value.message
    assert caught.value.__cause__ is not None


async def test_total_and_silence_limits_are_unavailable() -> None:
    """A plain TimeoutError is caught beside aiohttp's own errors."""

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async with serving(Endpoint(GET, slow)) as base, Session() as session:
        for limits in (Timeouts(total_s=0.02), Timeouts(read_s=0.02).streaming()):
            with pytest.raises(UnavailableError, match="no answer in time"):
                await session.ask("GET", f"{base}/get", timeouts=limits)


async def test_a_body_shorter_than_announced_is_unavailable() -> None:
    """A cut connection never looks like the end of a fragment."""

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(Endpoint(GET, half)) as base, Session() as session:
        with pytest.raises(UnavailableError, match="broke"):
            await session.ask("GET", f"{base}/get")


async def test_a_peer_that_does_not_speak_http_is_unavailable() -> None:
    """A wrong port gives a clear message."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Session() as session:
        with pytest.raises(UnavailableError, match="not HTTP"):
            await session.ask("GET", f"http://127.0.0.1:{port}/")


async def test_a_stream_is_read_piece_by_piece() -> None:
    """Leaving early drops the connection instead of reading the rest."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    part = http_part([Endpoint(GET, endless, is_stream=True)])
    url = f"http://127.0.0.1:{part.port}/get"
    size = 0
    async with running(part), Session() as session, session.stream("GET", url) as stream:
        async for piece in stream.chunks():
            size += len(piece)
            if size > 1_000_000:
                break
    assert size < 3_000_000


@pytest.mark.parametrize(
    "url",
    [
        "https://files.example.org",
        "https://files.example.org:8443/bistro",
        "http://127.0.0.1:8440",
        "http://localhost:8440",
        "http://relay.localhost",
        "http://[::1]:8440",
    ],
)
def test_https_and_this_machine_may_be_asked(url: str) -> None:
    """Plain HTTP is for trying things out on one machine."""
    assert str(require_usable_url(url)) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example.org",
        "http://127.0.0.1.example.org",
        "http://192.0.2.1",
        "ftp://files.example.org",
        "files.example.org",
        "https://",
        "https://user:secret@files.example.org",
        "https://files.example.org:99999999",
        "http://[::1",
        "",
    ],
)
def test_other_urls_are_refused_before_anything_is_sent(url: str) -> None:
    """Not even a host name is looked up."""
    with pytest.raises(SettingsError):
        require_usable_url(url)


def test_plain_http_elsewhere_has_to_be_allowed() -> None:
    """The user says so, openly."""
    assert require_usable_url("http://files.example.org", allow_http=True)
    with pytest.raises(SettingsError) as caught:
        require_usable_url("http://files.example.org")
    assert "--allow-http" in caught.value.hint


async def test_a_session_must_be_open() -> None:
    """Using it outside its block is a bug that is found at once."""
    with pytest.raises(RuntimeError, match="not open"):
        await Session().ask("GET", "https://files.example.org")


def write_certificate(folder: Path) -> HttpSettings:
    """A certificate for 127.0.0.1 that signs itself, in the settings of a daemon."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=36_500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return HttpSettings(
        port=0,
        base_url="https://127.0.0.1",
        certificate_path=folder / "cert.pem",
        key_path=folder / "key.pem",
    )


async def test_tls_is_verified_against_the_given_authority(tmp_path: Path) -> None:
    """Who is not trusted is not asked; a private authority can be given."""
    settings = write_certificate(tmp_path)
    part = HttpPart.bind(web_app(answering(web.Response(text="ok"))), settings)
    url = f"https://127.0.0.1:{part.port}/get"
    async with running(part):
        async with Session(ca_path=settings.certificate_path) as session:
            assert (await session.ask("GET", url)).body == b"ok"
        async with Session() as session:
            with pytest.raises(UnavailableError, match="not trusted") as caught:
                await session.ask("GET", url)
    assert "certificates" in caught.value.hint
    assert isinstance(part.tls, ssl.SSLContext)


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_an_authority_that_cannot_be_read_is_a_settings_error(
    tmp_path: Path, content: bytes | None
) -> None:
    """The file is named."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"ca\.pem"):
        Session(ca_path=path)
