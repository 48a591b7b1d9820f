"""RFC 3161 over HTTP: a real server, asked as any program asks an authority."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bistro.api import media, routes
from bistro.crypto.timestamp.certificate import validity
from bistro.crypto.timestamp.request import MAX_REQUEST_SIZE
from bistro.daemon import renewal
from bistro.errors import FormatError, LimitExceededError, SettingsError, UnknownObjectError
from bistro.net.session import Answer, Session
from bistro_server.app import Server
from bistro_server.services.authority import AuthorityFiles, renew_authority
from bistro_server.settings import load_settings
from tests.support.clocks import ManualClock
from tests.support.destinations import make_server, serving_folder, settings_for
from tests.support.timestamps import Request

GRANTED = bytes.fromhex("3003020100")
BAD_DATA_FORMAT = bytes.fromhex("03020204")
QUERY = {"Content-Type": media.TIMESTAMP_QUERY}


async def ask(session: Session, server: Server, body: bytes, **headers: str) -> Answer:
    """The answer of ``POST /tsa``."""
    url = f"http://127.0.0.1:{server.http.port}{routes.TIMESTAMPS.path()}"
    return await session.ask("POST", url, body=body, headers=headers or QUERY)


async def test_a_hash_is_stamped_and_noise_is_refused(tmp_path: Path) -> None:
    """Both with status 200 and the type that clients wait for; both are counted."""
    folder, settings = make_server(tmp_path / "d")
    async with serving_folder(folder, settings, ManualClock()) as (server, _), Session() as session:
        token = await ask(session, server, Request().encode())
        refusal = await ask(session, server, b"nonsense")
        for answer in (token, refusal):
            assert answer.headers["Content-Type"] == media.TIMESTAMP_REPLY
            assert answer.headers["Cache-Control"] == "no-store"
        assert GRANTED in token.body[:16]
        assert refusal.body.endswith(BAD_DATA_FORMAT)
        metrics = await session.ask("GET", f"http://127.0.0.1:{server.http.port}/metrics")
        for result in ("granted", "bad_data_format"):
            line = f'bistro_server_timestamps_total{{result="{result}"}} 1.0'
            assert line in metrics.body.decode()


async def converse(port: int, *requests: bytes) -> list[tuple[str, dict[str, str], bytes]]:
    """Send requests on one connection; of each answer status, fields that stay, and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for request in requests:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        size = int(fields.pop("Content-Length"))
        del fields["Date"], fields["Bistro-Request-Id"]
        answers.append((status, fields, await reader.readexactly(size)))
    writer.close()
    await writer.wait_closed()
    return answers


async def test_both_ways_through_the_server_answer_alike(tmp_path: Path) -> None:
    """The quick way, and the ordinary one that an unusual field leads to; refusals too."""
    folder, settings = make_server(tmp_path / "d")
    async with serving_folder(folder, settings, ManualClock()) as (server, _):
        for body in (Request().encode(), b"nonsense", Request(policy=b"\x06\x01\x2a").encode()):
            head = (
                f"POST /tsa HTTP/1.1\r\nHost: permits.example\r\nContent-Length: {len(body)}\r\n"
                f"Content-Type: {media.TIMESTAMP_QUERY}\r\n"
            )
            quick = f"{head}\r\n".encode() + body
            ordinary = f"{head}Connection: keep-alive, x-none\r\n\r\n".encode() + body
            first, second, third = await converse(server.http.port, quick, quick, ordinary)
            assert first[:2] == second[:2] == third[:2]
            is_granted = GRANTED in first[2][:16]
            assert is_granted == (GRANTED in third[2][:16])
            assert (first[2] == second[2] == third[2]) == (not is_granted)


async def test_what_is_no_request_is_a_problem(tmp_path: Path) -> None:
    """Another type of content, or more bytes than any request has."""
    folder, settings = make_server(tmp_path / "d")
    async with serving_folder(folder, settings, ManualClock()) as (server, _), Session() as session:
        with pytest.raises(FormatError, match="content type"):
            await ask(session, server, Request().encode(), **{"Content-Type": media.MSGPACK})
        with pytest.raises(LimitExceededError):
            await ask(session, server, bytes(MAX_REQUEST_SIZE + 1))
        refusal = await ask(session, server, bytes(MAX_REQUEST_SIZE))
        assert refusal.body.endswith(BAD_DATA_FORMAT)


async def test_a_folder_from_before_time_stamps_is_served(tmp_path: Path) -> None:
    """Everything works but this one route, which says so."""
    folder, settings = make_server(tmp_path / "d")
    folder.tsa_key.unlink()
    folder.tsa_certificate.unlink()
    async with serving_folder(folder, settings, ManualClock()) as (server, _), Session() as session:
        with pytest.raises(UnknownObjectError, match="no RFC 3161 time stamps"):
            await ask(session, server, Request().encode())


async def test_an_authority_of_ones_own_replaces_the_one_that_init_made(tmp_path: Path) -> None:
    """Named in the settings; a key without its certificate does not start."""
    folder, settings = make_server(tmp_path / "d")
    key, certificate = tmp_path / "key.pem", tmp_path / "chain.pem"
    folder.tsa_key.rename(key)
    folder.tsa_certificate.rename(certificate)
    paths = {"key_path": key, "certificate_path": certificate, "policy": "1.2.3.4"}
    settings = settings_for(timestamps=paths)
    async with serving_folder(folder, settings, ManualClock()) as (server, _), Session() as session:
        token = await ask(session, server, Request(policy=bytes.fromhex("06032a0304")).encode())
        assert GRANTED in token.body[:16]
    certificate.unlink()
    with pytest.raises(SettingsError, match="time-stamp certificate"):
        await Server.open(folder, settings, ManualClock())


async def test_a_renewed_certificate_signs_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new key as well; and the gauge that warns of its end follows."""
    monkeypatch.setattr(renewal, "POLL_S", 0.01)
    folder, settings = make_server(tmp_path / "d")
    clock = ManualClock()
    async with serving_folder(folder, settings, clock) as (server, _), Session() as session:

        async def signer() -> bytes:
            answer = await ask(session, server, Request(flag=b"\x01\x01\xff").encode())
            return answer.body

        first = AuthorityFiles.of(folder, None, None).require().own
        assert first.public_bytes(Encoding.DER) in await signer()
        clock.advance(60_000)
        renewed = renew_authority(folder, name="permits", now=clock.now(), with_new_key=True).own
        while renewed.public_bytes(Encoding.DER) not in await signer():  # noqa: ASYNC110 - files
            await asyncio.sleep(0.01)
        metrics = await session.ask("GET", f"http://127.0.0.1:{server.http.port}/metrics")
        ends = validity(renewed)[1] / 1_000
        assert ends > validity(first)[1] / 1_000
        found = metrics.body.decode().split('end_timestamp_seconds{certificate="tsa"} ')[1]
        assert float(found.split()[0]) == ends


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('key_path = "tsa.key"', "given both"),
        ('policy = "1.2.x"', "object identifier"),
        ('policy = ""', "object identifier"),
    ],
)
def test_settings_that_cannot_work_are_named(tmp_path: Path, line: str, words: str) -> None:
    """Before anything is opened."""
    folder, _ = make_server(tmp_path / "d")
    text = folder.settings_file.read_text(encoding="utf-8")
    changed = text.replace("[timestamps]\n", f"[timestamps]\n{line}\n")
    folder.settings_file.write_text(changed, encoding="utf-8")
    with pytest.raises(SettingsError, match=words):
        load_settings(folder.settings_file)
