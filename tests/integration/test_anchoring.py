"""Anchors: real servers whose logs another real authority stamps, and who gets to see it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization

from bistro.api import media, routes
from bistro.clock import SystemClock
from bistro.crypto.digest import sha256
from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp.chain import subject_of
from bistro.errors import SettingsError, UnavailableError, UnknownObjectError
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.net.timestamp_client import TimestampClient
from bistro.protocol.findings import State
from bistro.protocol.verification import verify_evidence
from bistro.wire.anchor import Anchor, Timestamp
from bistro.wire.evidence import Evidence
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import Ticketed
from bistro_client.verifying import Trust, read_authorities, verify_file
from bistro_server.app import Server
from bistro_server.services.authority import Authority
from bistro_server.services.checkup import Advice, describe_anchors
from bistro_server.services.folder import ServerFolder
from bistro_server.services.notary import Notary
from bistro_server.store.anchors import AnchorFiles
from tests.integration.test_client_path import FILES, filing
from tests.support.clocks import ManualClock
from tests.support.destinations import (
    Destination,
    make_call,
    make_server,
    serving_folder,
    settings_for,
)
from tests.support.relays import eventually
from tests.support.timestamps import POLICY, authority, der_of, issued, stamp
from tests.support.tools import require_tool
from tests.support.world import world
from tests.unit.client.relays import served


@contextlib.asynccontextmanager
async def other_server(root: Path, clock: ManualClock) -> AsyncIterator[tuple[str, Path]]:
    """A second server: where its ``/tsa`` answers, and its certificate."""
    folder, settings = make_server(root)
    async with serving_folder(folder, settings, clock) as (server, _):
        url = f"http://127.0.0.1:{server.http.port}{routes.TIMESTAMPS.path()}"
        yield url, folder.tsa_certificate


@contextlib.asynccontextmanager
async def anchored(
    root: Path, clock: ManualClock, url: str, certificate: Path, **more: Any
) -> AsyncIterator[Destination]:
    """A destination with the call ``spring`` whose settings name an authority."""
    folder, _ = make_server(root)
    settings = settings_for(
        anchoring={"url": url, "certificate_path": certificate, "interval_s": 600, **more}
    )
    call = await make_call(folder, clock)
    async with serving_folder(folder, settings, clock) as (server, task), Session() as session:
        base_url = f"http://127.0.0.1:{server.http.port}"
        api = ServerClient(session, base_url)
        yield Destination(folder, call, clock, server, base_url, session, api, task)


def sizes(site: Destination) -> list[int]:
    """How many entries the anchors cover that the running server hands out."""
    known = site.server.anchoring._known.get("spring")
    return [] if known is None else [*known.files.sizes()]


async def ticket(site: Destination, number: int) -> Ticket:
    answer = await site.api.request_ticket("spring", site.request(number))
    assert isinstance(answer, Ticketed)
    return Ticket.parse(answer.ticket)


async def metric(site: Destination, line: str) -> bool:
    found = await site.session.ask("GET", f"{site.base_url}/metrics")
    return line in found.body.decode().splitlines()


async def test_a_log_is_stamped_when_it_has_grown_and_when_it_closes(tmp_path: Path) -> None:
    """At once, then after the interval, then because the call closes; each is handed out."""
    clock = ManualClock()
    async with other_server(tmp_path / "other", clock) as (url, certificate):
        async with anchored(tmp_path / "d", clock, url, certificate) as site:
            await eventually(lambda: sizes(site) == [1])
            first = await ticket(site, 1)
            with pytest.raises(UnknownObjectError, match="no anchor covers"):
                await site.api.fetch_stamped("spring", first.index)
            await site.server.anchoring.step()
            assert sizes(site) == [1]
            clock.advance(600_000)
            await eventually(lambda: sizes(site) == [1, 2])
            second = await ticket(site, 2)
            clock.advance(site.terms.closes - clock.now() + 2_000)
            # It may just have been stamped without the entry that closes the call.
            await eventually(lambda: sizes(site)[-1:] == [4])
            for one, sizes_ in ((first, {2}), (second, {3, 4})):
                stamped = await site.api.fetch_stamped("spring", one.index)
                place = Ticket.parse(stamped.witnessed)
                assert place.proof.entry == one.proof.entry
                checkpoint = place.verify(site.call.log_key, site.call.origin, one.commitment)
                assert checkpoint.size in sizes_
            count = len(sizes(site))
            line = f'bistro_server_anchors_total{{result="kept"}} {count}.0'
            while not await metric(site, line):  # noqa: ASYNC110 - its own part
                await asyncio.sleep(0.01)
            assert await metric(site, "bistro_server_anchor_waiting_seconds 0.0")
        # Who starts again knows what was kept, and asks for nothing that is there.
        settings = settings_for(anchoring={"url": url, "certificate_path": certificate})
        async with serving_folder(site.folder, settings, clock) as (server, _):
            await server.anchoring.step()
            assert len(AnchorFiles(site.call.folder.anchors).sizes()) == count


async def test_an_authority_that_is_away_keeps_no_ticket_waiting(tmp_path: Path) -> None:
    """It is asked again, after longer and longer pauses; once it answers, everything is stamped."""
    clock = ManualClock()
    async with other_server(tmp_path / "other", clock) as (url, certificate):
        pass
    async with anchored(tmp_path / "d", clock, url, certificate) as site:
        anchoring = site.server.anchoring
        await ticket(site, 1)
        clock.advance(1)
        await anchoring.step()
        clock.advance(30_000)
        assert anchoring.waiting_ms() >= 30_000
        found = await site.session.ask("GET", f"{site.base_url}/metrics")
        assert b'bistro_server_anchors_total{result="unavailable"}' in found.body
        assert sizes(site) == []
        await ticket(site, 2)
        # The same folder under another port: what answered before answers again.
        folder = ServerFolder(tmp_path / "other")
        async with (
            serving_folder(folder, settings_for(), clock) as (server, _),
            Session(allow_http=True) as session,
        ):
            there = f"http://127.0.0.1:{server.http.port}{routes.TIMESTAMPS.path()}"
            assert anchoring.notary is not None
            anchoring.notary = Notary(
                asker=TimestampClient(session, there),
                trusted=anchoring.notary.trusted,
                policy=None,
                clock=clock,
                random_bytes=secrets.token_bytes,
            )
            clock.advance(600_000)
            await eventually(lambda: sizes(site) == [3] and anchoring.waiting_ms() == 0)


async def test_a_stamp_that_does_not_hold_is_not_kept(tmp_path: Path) -> None:
    """The authority's certificate is another one than the settings name."""
    clock = ManualClock()
    async with other_server(tmp_path / "other", clock) as (url, _):
        folder, _ = make_server(tmp_path / "stranger")
        async with anchored(tmp_path / "d", clock, url, folder.tsa_certificate) as site:
            await site.server.anchoring.step()
            line = 'bistro_server_anchors_total{result="not-verified"}'
            found = await site.session.ask("GET", f"{site.base_url}/metrics")
            assert line in found.body.decode()
            assert sizes(site) == []


async def openssl_authority(folder: Path) -> tuple[web.Application, Path]:
    """An authority made of ``openssl ts -reply`` under a bought certificate; its issuer's file."""
    program = require_tool("openssl")
    key = certificates.generate_key()
    own, root = issued(key, now=SystemClock().now())
    pem = serialization.Encoding.PEM
    (folder / "key").write_bytes(certificates.encode_key(key))
    (folder / "own").write_bytes(own.public_bytes(pem))
    (folder / "root.pem").write_bytes(root.public_bytes(pem))
    (folder / "serial").write_bytes(b"01")
    (folder / "cnf").write_text(
        f"[tsa]\ndefault_tsa = here\n[here]\nserial = {folder}/serial\ndefault_policy = {POLICY}\n"
        "digests = sha256\nsigner_digest = sha256\ness_cert_id_alg = sha256\naccuracy = secs:1\n",
        encoding="utf-8",
    )

    async def reply(request: web.Request) -> web.Response:
        (folder / "tsq").write_bytes(await request.read())
        options = ("-queryfile", "tsq", "-inkey", "key", "-signer", "own", "-out", "tsr")
        done = await asyncio.create_subprocess_exec(
            program, "ts", "-reply", "-config", "cnf", *options, cwd=folder
        )
        assert await done.wait() == 0
        headers = {"Content-Type": media.TIMESTAMP_REPLY}
        return web.Response(body=(folder / "tsr").read_bytes(), headers=headers)

    app = web.Application()
    app.router.add_post("/tsr", reply)
    return app, folder / "root.pem"


async def test_an_authority_of_openssl_stamps_our_logs(tmp_path: Path) -> None:
    """The settings name its issuer, since it changes its own certificate now and then."""
    clock = ManualClock(SystemClock().now())
    app, root = await openssl_authority(tmp_path)
    async with (
        served(app) as url,
        anchored(tmp_path / "d", clock, f"{url}/tsr", root, policy=POLICY) as site,
    ):
        await eventually(lambda: sizes(site) == [1])
        stamped = await site.api.fetch_stamped("spring", 0)
    (timestamp,) = stamped.timestamps
    names = [subject_of(one) for one in timestamp.certificates]
    assert names == ["'CN=Stamps of Example'", "'CN=Root of Example'"]


async def test_evidence_of_filer_and_destination_holds_the_stamp(tmp_path: Path) -> None:
    """Both verify offline, and show a time that is not the destination's."""
    async with filing(tmp_path) as filer:
        w = filer.w
        async with (
            other_server(tmp_path / "other", w.clock) as (url, certificate),
            Session(allow_http=True) as session,
        ):
            trusted = der_of(certificates.decode_chain(certificate.read_bytes()))
            w.site.server.anchoring.notary = Notary(
                asker=TimestampClient(session, url),
                trusted=trusted,
                policy=None,
                clock=w.clock,
                random_bytes=secrets.token_bytes,
            )
            folder = await filer.submit(FILES)
            await w.collect()
            w.pass_stage_by()
            await eventually(lambda: w.site.server.calls.get("spring").is_closed)
            log = w.site.server.calls.get("spring").log
            await eventually(lambda: sizes(w.site)[-1:] == [log.size])
            await w.open()
            await filer.submitter().look(folder)
        theirs = next(w.inbox.glob("*/evidence.json")).read_bytes()
        for data in (folder.evidence.read_bytes(), theirs):
            evidence = Evidence.decode(data)
            assert not {"witnessed", "timestamps"} & set(evidence.absent)
            report = verify_evidence(
                evidence,
                trust=w.site.terms.keys.terms,
                authorities={sha256(one) for one in trusted},
            )
            assert report.exit_ok, report.failures
            parts = {one.part for one in report.findings if one.state is State.OK}
            assert parts >= {"witnessed", "timestamps"}
        known = Trust(given=[w.site.terms.keys.terms], authorities=read_authorities(certificate))
        for trust, state in ((known, State.OK), (Trust(known.given), State.OPEN)):
            verdict = verify_file(folder.evidence, trust)
            assert verdict.holds
            (found,) = [one for one in verdict.report.findings if one.part == "timestamps"]
            assert found.state is state


async def test_an_anchor_that_does_not_hold_spoils_no_evidence(tmp_path: Path) -> None:
    """It was damaged on disk since: the filing is proven by all the rest."""
    async with world(tmp_path) as found:
        filed = await found.submit()
        log = found.site.server.calls.get("spring").log
        note = log.checkpoint()
        assert note is not None
        wrong = stamp(authority(), bytes(32))
        files = AnchorFiles(found.site.call.folder.anchors)
        files.write(Anchor(note, Timestamp(wrong, der_of(authority().chain))))
        await found.collect_and_open()
        path = found.inbox / filed.commitment.hex() / "evidence.json"
        evidence = Evidence.decode(path.read_bytes())
        assert {"witnessed", "timestamps"} <= set(evidence.absent)
        assert verify_evidence(evidence, trust=found.site.terms.keys.terms).exit_ok


async def test_doctor_asks_the_authority_and_shows_how_far_anchors_reach(tmp_path: Path) -> None:
    """It warns before the authority's certificate ends, and fails where nobody answers."""
    clock = ManualClock()
    async with other_server(tmp_path / "other", clock) as (url, certificate), Session() as session:
        async with anchored(tmp_path / "d", clock, url, certificate) as site:
            await eventually(lambda: sizes(site) == [1])
            notary = site.server.anchoring.notary
            told = await describe_anchors(site.folder, notary, clock)
            assert str(told).endswith("stamps; spring: 1, up to 1 entries")
        assert "nobody" not in str(told)
        told = await describe_anchors(site.folder, None, clock)
        assert str(told).startswith("no authority is asked")
        key = certificates.generate_key()
        ending = Authority(key, issued(key, now=clock.now(), days=20))

        class Ending:
            async def ask(self, digest: bytes, *, nonce: bytes) -> bytes:
                return stamp(ending, digest, nonce=nonce, time=clock.now())

        soon = Notary(
            asker=Ending(),
            trusted=der_of(ending.chain),
            policy=None,
            clock=clock,
            random_bytes=secrets.token_bytes,
        )
        told = await describe_anchors(site.folder, soon, clock)
        assert isinstance(told, Advice)
        assert "next certificate" in told.hint
        away = TimestampClient(session, "http://127.0.0.1:9/tsr")
        with pytest.raises(UnavailableError):
            await describe_anchors(site.folder, replace(soon, asker=away), clock)


async def test_a_certificate_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    """Before anything is served."""
    folder, _ = make_server(tmp_path / "d")
    wanted = {"url": "https://stamps.example/tsr", "certificate_path": tmp_path / "gone.pem"}
    with pytest.raises(SettingsError, match="certificate of the authority"):
        await Server.open(folder, settings_for(anchoring=wanted), ManualClock())
