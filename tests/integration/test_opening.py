"""Opening: what counts, what does not and why, and what filers, strangers and offices get."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bistro.api import routes
from bistro.crypto.merkle import root_of
from bistro.crypto.sealing import encode_identity_file, generate_identity
from bistro.errors import NotOpenError, SettingsError, StorageError
from bistro.protocol.verification import verify_evidence
from bistro.storage.durable import write_atomically
from bistro.wire.evidence import Evidence
from bistro.wire.manifest import File, Manifest
from bistro.wire.minutes import MinutesEntry, salted_outcome, verify_minutes
from bistro.wire.status import verify_outcome, verify_status
from tests.support.tools import require_tool
from tests.support.world import SMALL_FILES, Filing, World, archive_of, world

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


async def collected_world_opens(found: World) -> None:
    await found.collect()
    found.pass_stage_by()
    await found.open()


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
        await collected_world_opens(found)
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
        await collected_world_opens(found)
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
        await collected_world_opens(found)
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
        await collected_world_opens(found)
        before = snapshot(found.site.folder.root)
        found.site.call.folder.identity.rename(tmp_path / "away")
        found.clock.advance(1_000)
        assert (await found.open()).counts == {"opened": 1}
        after = snapshot(found.site.folder.root)
        after[str(Path("keys/spring/identity.txt"))] = (tmp_path / "away").read_bytes()
        assert after == before


async def test_the_last_submission_of_a_slot_counts(tmp_path: Path) -> None:
    """What it replaces is superseded, and never unpacked; other slots stand."""
    async with world(tmp_path) as found:
        first = await found.submit()
        second = await found.submit({"b.txt": b"second"}, nonce="2")
        other = await found.submit({"c.txt": b"other"}, slot="appendix")
        await collected_world_opens(found)
        assert found.outcome(first) == ("superseded", [])
        assert found.outcome(second) == ("opened", [])
        assert found.outcome(other) == ("opened", [])
        assert not (found.inbox / first.commitment.hex()).exists()


async def test_what_lapsed_may_be_amended(tmp_path: Path) -> None:
    """Nobody could read whose it was; the amendment touches its own slot only."""
    async with world(tmp_path) as found:
        lapsed = await found.ticket(found.seal(nonce="1"))
        amended = await found.submit(kind="amend", previous=lapsed.commitment, nonce="2")
        other = await found.submit(kind="amend", previous=bytes(32), slot="appendix", nonce="3")
        await collected_world_opens(found)
        assert found.outcome(lapsed)[0] == "lapsed"
        assert found.outcome(amended) == ("opened", [])
        assert found.outcome(other) == ("rejected", ["unknown-previous"])


async def test_a_withdrawal_takes_back_what_stood(tmp_path: Path) -> None:
    """Both end as withdrawn."""
    async with world(tmp_path) as found:
        first = await found.submit()
        back = await found.submit({}, kind="withdraw", previous=first.commitment, nonce="2")
        stranger = await found.submit({}, filer="eve", kind="withdraw", previous=first.commitment)
        await collected_world_opens(found)
        assert found.outcome(first) == ("withdrawn", [])
        assert found.outcome(back) == ("withdrawn", [])
        assert found.outcome(stranger) == ("rejected", ["unknown-previous"])


async def test_a_replacement_that_cannot_be_unpacked_does_not_count(tmp_path: Path) -> None:
    """The submission before it stands again, and is unpacked."""
    async with world(tmp_path) as found:
        first = await found.submit()
        bad = await found.submit({"b.txt": b"x"}, nonce="2", archive=_cut_short(found, "2"))
        await collected_world_opens(found)
        assert found.outcome(bad) == ("rejected", ["malformed"])
        assert found.outcome(first) == ("opened", [])
        assert (found.inbox / first.commitment.hex() / "files").is_dir()
        assert not (found.inbox / bad.commitment.hex()).exists()


def _cut_short(found: World, nonce: str) -> bytes:
    filing = found.seal({"b.txt": b"x"}, nonce=nonce)
    return archive_of(filing.signed, filing.manifest, {"b.txt": b"x"})[:-512]


def _other_bytes(found: World) -> Filing:
    filing = found.seal({"a.txt": b"right"})
    archive = archive_of(filing.signed, filing.manifest, {"a.txt": b"right"})
    return found.seal({"a.txt": b"right"}, archive=archive.replace(b"right", b"wrong"))


def _other_tar(found: World) -> Filing:
    """An archive with a link in it, after a genuine header and manifest."""
    filing = found.seal({"a.txt": b"x"})
    start = archive_of(filing.signed, filing.manifest, {"a.txt": b"x"})[: -1_024 - 1_024]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        link = tarfile.TarInfo("a.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return found.seal({"a.txt": b"x"}, archive=start + buffer.getvalue())


BAD: dict[str, tuple[Callable[[World], Filing], tuple[str, list[str]]]] = {
    "another header": (
        lambda found: found.seal(header_leaf=hashlib.sha256(b"other").digest()),
        ("rejected", ["header-mismatch"]),
    ),
    "a forged signature": (
        lambda found: found.seal(signature=bytes(63) + b"\1"),
        ("rejected", ["signature"]),
    ),
    "terms of nowhere": (
        lambda found: found.seal(terms_hash=bytes(32)),
        ("rejected", ["unknown-terms"]),
    ),
    "another manifest": (
        lambda found: found.seal({"a": b"x"}, archive=_with_manifest_of(found, {"b": b"x"})),
        ("rejected", ["manifest-mismatch"]),
    ),
    "other bytes": (_other_bytes, ("rejected", ["manifest-mismatch"])),
    "a link": (_other_tar, ("rejected", ["malformed"])),
    "too many files": (
        lambda found: found.seal({f"{number}.txt": b"" for number in range(101)}),
        ("rejected", ["limit-exceeded"]),
    ),
    "no archive": (lambda found: found.seal(archive=bytes(2_000)), ("void", ["malformed"])),
    "no envelope": (
        lambda found: found.seal(envelope=b"just bytes" * 100),
        ("void", ["not-decryptable"]),
    ),
    "an altered envelope": (
        lambda found: found.seal(envelope=_altered(found.seal().envelope)),
        ("void", ["not-decryptable"]),
    ),
}


def _with_manifest_of(found: World, files: dict[str, bytes]) -> bytes:
    """An archive whose header names one manifest and that holds another."""
    signed = found.seal({"a": b"x"}).signed
    digest = hashlib.sha256(b"x").digest()
    manifest = Manifest((File("b", 1, "application/octet-stream", digest),))
    other = found.seal(files)
    archive = archive_of(other.signed, manifest, files)
    return archive.replace(other.signed.encode(), signed.encode())


def _altered(envelope: bytes) -> bytes:
    return envelope[:-40] + bytes([envelope[-40] ^ 1]) + envelope[-39:]


@pytest.mark.timeout(60)
async def test_whatever_is_wrong_has_its_outcome_and_harms_nobody(tmp_path: Path) -> None:
    """Hostile archives and envelopes end with a reason; a good filing beside them is opened."""
    async with world(tmp_path) as found:
        good = await found.submit()
        bad: dict[str, Filing] = {}
        for number, (name, (make, _)) in enumerate(BAD.items()):
            del number
            bad[name] = await found.staged(await found.ticket(make(found)), (0, 1))
        await collected_world_opens(found)
        assert {name: found.outcome(filing) for name, filing in bad.items()} == {
            name: expected for name, (_, expected) in BAD.items()
        }
        assert found.outcome(good)[0] in {"opened", "superseded"}
        assert not [path for path in found.inbox.iterdir() if path.name.startswith(".")]


async def test_names_stay_inside_the_folder(tmp_path: Path) -> None:
    """Every odd name that the manifest admits is a file below ``files``."""
    names = {"a/../b": b""}
    async with world(tmp_path) as found:
        with pytest.raises(Exception, match="file path"):
            found.seal(names)
        odd = {"-rf": b"1", "~": b"2", "a b/.hidden": b"3", "x" * 255: b"4", "ü/%2e%2e/é": b"5"}
        filing = await found.submit(odd)
        await collected_world_opens(found)
        place = found.inbox / filing.commitment.hex() / "files"
        assert {
            str(path.relative_to(place)): path.read_bytes()
            for path in place.rglob("*")
            if path.is_file()
        } == odd


async def test_an_envelope_that_changed_on_our_disk_is_not_held_against_its_filer(
    tmp_path: Path,
) -> None:
    """Opening stops and names the file; with the right bytes it goes on."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        await found.collect()
        (path,) = found.site.call.folder.envelopes.glob("*/*.age")
        path.write_bytes(_altered(filing.envelope))
        found.pass_stage_by()
        with pytest.raises(StorageError, match="has changed on this disk"):
            await found.open()
        path.write_bytes(filing.envelope)
        assert (await found.open()).counts == {"opened": 1}


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
        await collected_world_opens(found)
        lines: list[dict[str, Any]] = found.index()
        assert [line["commitment"] for line in lines] == [
            void.commitment.hex(),
            lapsed.commitment.hex(),
        ]
        assert [line["outcome"] for line in lines] == ["void", "lapsed"]
        assert lines[0]["filer"] is None
        assert json.dumps(lines[1]["reasons"]).count("not-staged") == 1
