"""What operators see of a real server: metrics, readiness, minutes, TLS in doctor."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from bistro.api import routes
from bistro.crypto.signing import sign_note
from bistro.errors import FormatError, SettingsError, UnavailableError
from bistro.net.session import Session
from bistro.wire.checkpoint import verify_checkpoint
from bistro.wire.staging import Failure, PresentedReceipt
from bistro_server.cli.doctor import _check_tls
from bistro_server.services.timekeeping import require_trusted_clock
from bistro_server.settings import load_settings
from tests.support.clocks import NOON, ManualClock
from tests.support.destinations import (
    HOUR_MS,
    Destination,
    Envelope,
    destination,
    make_call,
    make_server,
    serving_folder,
    settings_for,
    ticket_for,
)
from tests.support.strategies import note_key


async def text_of(site: Destination, path: str) -> str:
    """The body of a page."""
    answer = await site.session.ask("GET", f"{site.base_url}{path}", limit=1_000_000)
    return answer.body.decode(errors="replace")  # bundles have binary lengths


async def test_metrics_count_batches_and_calls(tmp_path: Path) -> None:
    """Labels are ledgers and states, never what was asked for."""
    async with destination(tmp_path / "d") as site:
        await site.api.request_tickets("spring", [site.request(n) for n in (1, 2, 1)])
        await site.api.request_tickets("spring", [site.request(n) for n in (1, 2)])
        found = await text_of(site, "/metrics")
        for line in (
            'bistro_server_ledger_entries_total{ledger="log"} 2.0',
            'bistro_server_ledger_duplicates_total{ledger="log"} 3.0',
            'bistro_server_ledger_batch_entries_count{ledger="log"} 1.0',
            'bistro_server_calls{state="open"} 1.0',
            'bistro_server_calls{state="closed"} 0.0',
            "bistro_server_tickets_waiting 0.0",
            "bistro_server_ready 1.0",
            "bistro_server_clock_error_bound_seconds 0.01",
            "bistro_server_clock_error_limit_seconds 0.1",
            "bistro_server_clock_step_seconds 0.0",
            "bistro_server_disk_min_free_bytes 0.0",
            'bistro_server_certificate_end_timestamp_seconds{certificate="tsa"}',
        ):
            assert line in found
        assert re.search(r"^bistro_server_ledger_sync_seconds_count [1-9]", found, re.MULTILINE)
        assert "spring" not in found
        site.clock.advance(HOUR_MS + 1_001)
        await site.api.request_tickets("spring", [site.request(n) for n in (3, 4)])
        found = await text_of(site, "/metrics")
        for line in (
            'bistro_server_ledger_unstamped_total{code="deadline-passed",ledger="log"} 2.0',
            'bistro_server_ledger_entries_total{ledger="refusals"} 2.0',
        ):
            assert line in found
        site.clock.bound_ms = None
        site.clock.step(-800)
        found = await text_of(site, "/metrics")
        for line in (
            "bistro_server_ready 0.0",
            "bistro_server_clock_error_bound_seconds -1.0",
            "bistro_server_clock_step_seconds -0.8",
        ):
            assert line in found


async def test_refusals_are_published_like_tickets(tmp_path: Path) -> None:
    """Under their own origin, signed by the same key under its other name."""
    async with destination(tmp_path / "d") as site:
        site.clock.advance(HOUR_MS + 1_001)
        await site.api.request_tickets("spring", [site.request(n) for n in range(3)])
        note = await text_of(site, routes.REFUSALS_CHECKPOINT.path(call="spring"))
        key = site.terms.keys.log.renamed(site.call.origin.refusals)
        assert verify_checkpoint(note.encode(), key).size == 3
        tile = routes.REFUSALS_TILE.path(call="spring", tile="entries/000.p/3")
        assert (await text_of(site, tile)).count("reason deadline-passed") == 3


async def test_minutes_are_served_as_they_lie(tmp_path: Path) -> None:
    """From the moment at which they are there."""
    async with destination(tmp_path / "d") as site:
        note = sign_note(b"minutes\n", note_key("any"))
        site.call.folder.minutes.write_bytes(note)
        assert (await site.api.fetch_minutes("spring")).encode() == note


async def test_a_claim_of_another_size_or_call_is_refused(tmp_path: Path) -> None:
    """The envelope limit of the terms holds for what is presented, too."""
    async with destination(tmp_path / "d", envelope_limit=1_000) as site:
        envelope = Envelope.numbered(1)
        ticket = await ticket_for(site, envelope)
        claim = envelope.claim(site.call.origin, ticket, 0)
        other = envelope.claim(type(site.call.origin)("other.example", "spring"), ticket, 0)
        items = [PresentedReceipt(one.encode(), "receipt") for one in (claim, other)]
        answers = await site.api.present_receipts("spring", items)
        messages = [answer.message for answer in answers if isinstance(answer, Failure)]
        assert "at most 1000 bytes" in messages[0]
        assert "expected one for permits.example/spring" in messages[1]


async def test_bad_queries_are_malformed(tmp_path: Path) -> None:
    """A cursor is a plain decimal."""
    async with destination(tmp_path / "d") as site:
        for query in ("after=-1", "limit=1001", "after=x"):
            with pytest.raises(FormatError):
                await text_of(site, f"/calls/spring/repairs?{query}")


async def test_a_full_disk_makes_a_server_unready(tmp_path: Path) -> None:
    """It still answers what it has; who balances load is told to go elsewhere."""
    folder, _ = make_server(tmp_path / "d")
    clock = ManualClock()
    await make_call(folder, clock)
    settings = settings_for(disk={"min_free_bytes": 1 << 60})
    async with serving_folder(folder, settings, clock) as (server, _):
        await _expect_unready(server.http.port)


async def _expect_unready(port: int) -> None:
    async with Session() as session:
        with pytest.raises(UnavailableError, match="free bytes"):
            await session.ask("GET", f"http://127.0.0.1:{port}/readyz", limit=10_000)


def test_only_a_known_small_error_is_trusted() -> None:
    """Unknown, or above the limit, is not."""
    require_trusted_clock(ManualClock(bound_ms=100), error_limit_ms=100)
    for bound in (None, 101):
        with pytest.raises(UnavailableError):
            require_trusted_clock(ManualClock(bound_ms=bound), error_limit_ms=100)


def certificate_of(key: ec.EllipticCurvePrivateKey, *, days: int) -> bytes:
    """A certificate that signs itself, good for ``days`` from noon."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "permits.example")])
    noon = datetime.fromtimestamp(NOON / 1_000, UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(noon - timedelta(days=1))
        .not_valid_after(noon + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def test_doctor_reads_the_certificate(tmp_path: Path) -> None:
    """Until when it is good; a missing one behind https is expected at a proxy."""
    folder, _ = make_server(tmp_path / "d")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder.root / "key.pem").write_bytes(pem)
    (folder.root / "tls.pem").write_bytes(certificate_of(key, days=60))
    settings = load_settings(folder.settings_file)
    assert "plain HTTP" in _check_tls(settings, ManualClock())
    text = folder.settings_file.read_text(encoding="utf-8")
    text = text.replace('"http://', '"https://')
    text = text.replace(
        '# certificate_path = "tls/certificate.pem"', 'certificate_path = "tls.pem"'
    )
    text = text.replace('# key_path = "tls/key.pem"', 'key_path = "key.pem"')
    folder.settings_file.write_text(text, encoding="utf-8")
    settings = load_settings(folder.settings_file)
    assert "valid until" in _check_tls(settings, ManualClock())
    (folder.root / "tls.pem").write_bytes(certificate_of(key, days=13))
    with pytest.raises(SettingsError, match="only"):
        _check_tls(settings, ManualClock())
