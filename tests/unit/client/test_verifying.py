"""Offline verification: what is proven is said, what was tampered with is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bistro.errors import SettingsError, VerificationError
from bistro.protocol.findings import State
from bistro_client.verifying import Trust, Verdict, verify_file
from tests.support.strategies import note_key
from tests.unit.client.worlds import World, world


async def staged(w: World) -> Trust:
    await w.submitter().submit(w.wish())
    return Trust(given=[w.destination.terms.keys.terms])


def texts(verdict: Verdict, part: str, state: State = State.OK) -> list[str]:
    return [one.text for one in verdict.report.findings if one.part == part and one.state is state]


async def test_evidence_says_what_is_proven_and_by_whom(tmp_path: Path) -> None:
    """Every finding that holds names who vouches for it."""
    async with world(tmp_path) as w:
        trust = await staged(w)
        verdict = verify_file(w.only_folder().evidence, trust)
        assert verdict.kind == "evidence"
        assert "to permits.example/spring, slot main, with a ticket of 2026-" in verdict.summary
        assert verdict.holds
        (text,) = texts(verdict, "ticket")
        assert "on time" in text
        assert all(one.by for one in verdict.report.findings if one.state is State.OK)


async def test_without_a_trusted_key_the_reader_is_told_to_compare(tmp_path: Path) -> None:
    """The file then proves what that key says, and nothing about whose key it is."""
    async with world(tmp_path) as w:
        await staged(w)
        verdict = verify_file(w.only_folder().evidence, Trust())
        assert verdict.holds
        assert not verdict.is_trusted
        assert texts(verdict, "trust", State.OPEN)
        key = w.destination.terms.keys.terms
        pinned = verify_file(w.only_folder().evidence, Trust(pinned=[key]))
        assert texts(pinned, "trust")
        assert pinned.is_trusted


@pytest.mark.parametrize("name", ["permits.example", "other.example"])
async def test_evidence_of_another_key_does_not_hold(tmp_path: Path, name: str) -> None:
    """``--trust`` is never passed over, whatever name the key has."""
    async with world(tmp_path) as w:
        await staged(w)
        other = Trust(given=[note_key(name, seed="other").verifier])
        verdict = verify_file(w.only_folder().evidence, other)
        assert not verdict.holds
        assert verdict.report.failures[0].part == "terms"


PARTS = ["ticket", "submission", "manifest", "layout", "terms_key"]


@pytest.mark.parametrize("part", PARTS)
async def test_tampered_evidence_is_found(tmp_path: Path, part: str) -> None:
    """One changed character in any part: exit 4, by a finding or because nothing can be read."""
    async with world(tmp_path) as w:
        trust = await staged(w)
        content = json.loads(w.only_folder().evidence.read_bytes())
        at = len(content[part]) // 2
        other = "B" if content[part][at] == "A" else "A"
        content[part] = content[part][:at] + other + content[part][at + 1 :]
        path = tmp_path / "tampered.evidence.json"
        encoded = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        path.write_text(encoded, encoding="utf-8")
        assert not holds(path, trust)


def holds(path: Path, trust: Trust) -> bool:
    try:
        return verify_file(path, trust).holds
    except VerificationError:
        return False


async def test_every_receipt_that_was_tampered_with_is_found(tmp_path: Path) -> None:
    """A bit anywhere in a bare receipt, ticket or evidence spoils it."""
    async with world(tmp_path) as w:
        trust = await staged(w)
        folder = w.only_folder()
        beside = folder.evidence
        for path in (next(folder.receipts.iterdir()), folder.ticket):
            data = path.read_bytes()
            assert verify_file(path, trust, beside=beside).holds
            copy = tmp_path / path.name
            for at in range(0, len(data), 23):
                copy.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
                try:
                    verdict = verify_file(copy, trust, beside=beside)
                except (VerificationError, SettingsError):
                    continue
                assert not verdict.holds, at


async def test_a_bare_ticket_takes_its_key_from_the_evidence_beside_it(tmp_path: Path) -> None:
    """And says whose submission it is about."""
    async with world(tmp_path) as w:
        trust = await staged(w)
        folder = w.only_folder()
        for path in (folder.ticket, next(folder.receipts.iterdir())):
            verdict = verify_file(path, trust)
            assert verdict.holds
            assert folder.evidence.name in texts(verdict, "submission")[0]
            assert texts(verdict, "key", State.OPEN)


async def test_a_bare_ticket_about_another_submission_says_so(tmp_path: Path) -> None:
    """The key is right, the submission is not that of the evidence."""
    async with world(tmp_path) as w:
        trust = await staged(w)
        first = w.only_folder()
        await w.submitter().submit(w.wish())
        second = next(one for one in w.home.folders() if one.id != first.id)
        verdict = verify_file(first.ticket, trust, beside=second.evidence)
        assert verdict.holds
        assert "another submission" in texts(verdict, "submission", State.OPEN)[0]


async def test_a_bare_promise_can_be_checked_with_its_makers_key(tmp_path: Path) -> None:
    """Given with ``--trust``: the log's for a ticket, the relay's for a receipt."""
    async with world(tmp_path) as w:
        await staged(w)
        folder = w.only_folder()
        ticket = tmp_path / "alone.ticket"
        ticket.write_bytes(folder.ticket.read_bytes())
        receipt = tmp_path / "alone.receipt"
        relay = next(folder.receipts.iterdir())
        receipt.write_bytes(relay.read_bytes())
        for path in (ticket, receipt):
            with pytest.raises(SettingsError, match="no key for that is known") as caught:
                verify_file(path, Trust())
            assert "--trust" in caught.value.hint
        assert verify_file(ticket, Trust(given=[w.destination.terms.keys.log])).holds
        name = relay.name.removesuffix(".receipt").partition("-")[2]
        assert verify_file(receipt, Trust(given=[note_key(name).verifier])).holds
        forged = note_key(name, seed="forged").verifier
        assert not verify_file(receipt, Trust(given=[forged])).holds


@pytest.mark.parametrize("content", [b"", b"hello", b"{}", b'{"kind":"bistro/evidence/v1"}'])
def test_a_file_that_is_nothing_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    """Exit 4 with what to do: it may once have been evidence."""
    path = tmp_path / "x.evidence.json"
    path.write_bytes(content)
    with pytest.raises(VerificationError, match="not evidence") as caught:
        verify_file(path, Trust())
    assert caught.value.exit_code == 4


def test_a_proof_of_something_else_is_refused(tmp_path: Path) -> None:
    """A tlog-proof that carries none of our promises."""
    path = tmp_path / "x.ticket"
    path.write_bytes(b"c2sp.org/tlog-proof@v1\nindex 1\n\n")
    with pytest.raises(VerificationError):
        verify_file(path, Trust())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Exit 2."""
    with pytest.raises(SettingsError, match="no such file"):
        verify_file(tmp_path / "nothing.ticket", Trust())


def test_what_cannot_be_read_is_the_readers_to_change(tmp_path: Path) -> None:
    """A folder, for example: nothing is wrong with our own disk."""
    with pytest.raises(SettingsError, match="directory"):
        verify_file(tmp_path, Trust())


def test_a_file_that_is_too_long_is_nothing_of_ours(tmp_path: Path) -> None:
    """It is not read to its end to find that out."""
    path = tmp_path / "long.evidence.json"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(VerificationError, match="expected at most"):
        verify_file(path, Trust())
