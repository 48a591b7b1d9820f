"""Opening: what filers, strangers and offices get, and when it is refused."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bistro.api import routes
from bistro.crypto.merkle import root_of
from bistro.crypto.sealing import encode_identity_file, generate_identity
from bistro.errors import NotOpenError, SettingsError
from bistro.protocol.verification import verify_evidence
from bistro.storage.durable import write_atomically
from bistro.wire.evidence import Evidence
from bistro.wire.minutes import MinutesEntry, salted_outcome, verify_minutes
from bistro.wire.status import verify_outcome, verify_status
from tests.support.tools import require_tool
from tests.support.world import SMALL_FILES, world

ABSENT = {
    "admission",
    "file_key",
    "held",
    "postmarks",
    "refusal",
    "rotations",
    "timestamps",
    "witnessed",
}


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file below ``root`` but locks and the database's own."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "lock" not in path.name and path.suffix != ".sqlite3"
    }


async def test_a_filing_is_unpacked_with_manifest_and_evidence(tmp_path: Path) -> None:
    """What the filer handed in lies in the inbox, byte for byte."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        await found.collect_and_open()
        place = found.inbox / filing.commitment.hex()
        for name, data in SMALL_FILES.items():
            assert (place / "files" / name).read_bytes() == data
        assert (place / "manifest.json").read_bytes() == filing.manifest.encode()
        assert {path.name for path in found.inbox.iterdir()} == {place.name, "index.jsonl"}
        (line,) = found.index()
        assert line["files"] == 2
        assert line["kind"] == "submit"
        assert line["filer"] == filing.signed.header.filer_key.hex()


async def test_evidence_verifies_offline_with_all_its_parts(tmp_path: Path) -> None:
    """A stranger with the terms key can check everything that was promised."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        await found.submit(filer="grace")
        await found.ticket(found.seal(filer="tardy"))
        await found.collect_and_open()
        data = (found.inbox / filing.commitment.hex() / "evidence.json").read_bytes()
        evidence = Evidence.decode(data)
        report = verify_evidence(evidence, trust=found.site.terms.keys.terms)
        assert report.exit_ok, report.failures
        assert set(evidence.absent) == ABSENT
        assert len(evidence.receipts) == 3
        said = {finding.part for finding in report.findings if finding.state.name == "OK"}
        assert {"ticket", "closed", "opening", "receipts", "status", "outcome"} <= said
        assert {"minutes", "minutes entry", "consistency", "manifest"} <= said


async def test_minutes_count_every_commitment_of_the_log(tmp_path: Path) -> None:
    """Also what lapsed, in the order of the log; each filer gets its place."""
    async with world(tmp_path) as found:
        opened = await found.submit()
        lapsed = await found.ticket(found.seal(filer="tardy"))
        other = await found.submit(filer="grace")
        await found.collect_and_open()
        call = found.site.call
        minutes = verify_minutes(call.folder.minutes.read_bytes(), call.status_key.verifier)
        expected = [
            (opened, opened.signed.header.token, "opened"),
            (lapsed, b"", "lapsed"),
            (other, other.signed.header.token, "opened"),
        ]
        leaves = [
            MinutesEntry(
                index=index, commitment=one.commitment, salted=salted_outcome(token, outcome)
            ).leaf
            for index, (one, token, outcome) in enumerate(expected, 1)
        ]
        assert (minutes.count, minutes.root) == (3, root_of(leaves))
        note = await found.site.api.fetch_outcome(
            call.id, other.commitment, other.signed.header.token
        )
        outcome = verify_outcome(note.encode(), call.status_key.verifier)
        assert outcome.minutes is not None
        assert minutes.verify_place(outcome.minutes).commitment == other.commitment
        note = await found.site.api.fetch_outcome(call.id, lapsed.commitment, bytes(32))
        outcome = verify_outcome(note.encode(), call.status_key.verifier)
        assert (outcome.outcome, outcome.reasons[0].code) == ("lapsed", "not-staged")
        status = await found.site.api.fetch_status(call.id, lapsed.commitment)
        url = routes.STATUS.url(
            found.site.base_url, call=call.id, commitment=lapsed.commitment.hex()
        )
        answer = await found.site.session.ask("GET", url)
        # The last word on it: whoever asks again may be told by anybody in between.
        assert answer.headers["Cache-Control"] == "public, max-age=3600"
        assert verify_status(status.encode(), call.status_key.verifier).state == "lapsed"


async def test_opening_too_early_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    """Exit 3, with the reason and the time from which it is allowed."""
    async with world(tmp_path) as found:
        await found.submit()
        await found.collect()
        found.clock.advance(found.site.terms.closes - found.clock.now() + 60_000)
        before = snapshot(found.site.folder.inbox)
        with pytest.raises(NotOpenError) as caught:
            await found.open()
        assert "sealed until" in caught.value.message
        assert "try again at 2026-" in caught.value.hint
        assert snapshot(found.site.folder.inbox) == before
        assert await found.site.server.calls.get("spring").find_opening() is None


async def test_opening_waits_for_what_is_staged_and_not_collected(tmp_path: Path) -> None:
    """Until repair_by it may still come."""
    async with world(tmp_path) as found:
        await found.submit()
        found.pass_stage_by()
        with pytest.raises(NotOpenError, match="1 staged submissions are not collected until"):
            await found.open()
        found.pass_repair_by()
        assert (await found.open()).counts == {"void": 1}


async def test_another_calls_identity_is_refused_before_the_log_ends(tmp_path: Path) -> None:
    """The opening entry cannot be taken back, so the key is looked at first."""
    async with world(tmp_path) as found:
        await found.submit()
        await found.collect()
        found.pass_stage_by()
        wrong = tmp_path / "wrong.txt"
        write_atomically(wrong, encode_identity_file(generate_identity("x25519")))
        with pytest.raises(SettingsError, match="none of its 1 keys"):
            await found.open(identity=wrong)
        with pytest.raises(SettingsError):
            await found.open(identity=tmp_path / "missing.txt")
        garbage = tmp_path / "garbage.txt"
        garbage.write_bytes(b"not a key\n")
        with pytest.raises(SettingsError):
            await found.open(identity=garbage)
        assert await found.site.server.calls.get("spring").find_opening() is None
        moved = tmp_path / "moved.txt"
        found.site.call.folder.identity.rename(moved)
        assert (await found.open(identity=moved)).counts == {"opened": 1}


async def test_running_open_twice_changes_nothing(tmp_path: Path) -> None:
    """Not even the identity is needed any more."""
    async with world(tmp_path) as found:
        await found.submit()
        await found.collect_and_open()
        before = snapshot(found.site.folder.root)
        found.site.call.folder.identity.rename(tmp_path / "away")
        found.clock.advance(1_000)
        assert (await found.open()).counts == {"opened": 1}
        after = snapshot(found.site.folder.root)
        after[str(Path("keys/spring/identity.txt"))] = (tmp_path / "away").read_bytes()
        assert after == before


async def test_an_empty_call_can_be_opened(tmp_path: Path) -> None:
    """The minutes say that there was nothing."""
    async with world(tmp_path) as found:
        found.pass_stage_by()
        assert (await found.open()).counts == {}
        note = found.site.call.folder.minutes.read_bytes()
        assert verify_minutes(note, found.site.call.status_key.verifier).count == 0
        assert found.index() == []


async def test_a_call_that_is_never_sealed_is_opened_at_its_end(tmp_path: Path) -> None:
    """With ``sealed_until: none`` this version waits for repair_by like the entry itself."""
    async with world(tmp_path, sealed_until="none") as found:
        await found.submit()
        await found.collect()
        found.pass_stage_by()
        with pytest.raises(NotOpenError, match="repairs may arrive"):
            await found.open()
        found.pass_repair_by()
        assert (await found.open()).counts == {"opened": 1}


async def test_age_opens_a_collected_envelope(tmp_path: Path) -> None:
    """The standard tool and the call's identity are enough to get at a filing."""
    age = require_tool("age")
    async with world(tmp_path) as found:
        await found.submit()
        await found.collect()
        folder = found.site.call.folder
        (envelope,) = folder.envelopes.glob("*/*.age")
        done = subprocess.run(  # noqa: ASYNC221 - it is short
            [age, "-d", "-i", str(folder.identity), str(envelope)],
            capture_output=True,
            check=True,
            timeout=20,
        )
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
            assert tar.getnames() == ["submission.bin", "manifest.json", *SMALL_FILES]


async def test_index_lines_say_what_each_commitment_became(tmp_path: Path) -> None:
    """One line a commitment, also where nothing could be read."""
    async with world(tmp_path) as found:
        void = await found.staged(await found.ticket(found.seal(envelope=b"x" * 400)))
        lapsed = await found.ticket(found.seal(filer="tardy"))
        await found.collect_and_open()
        lines: list[dict[str, Any]] = found.index()
        assert [line["commitment"] for line in lines] == [
            void.commitment.hex(),
            lapsed.commitment.hex(),
        ]
        assert [line["outcome"] for line in lines] == ["void", "lapsed"]
        assert lines[0]["filer"] is None
        assert json.dumps(lines[1]["reasons"]).count("not-staged") == 1
