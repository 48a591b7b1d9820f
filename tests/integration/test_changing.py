"""Amendments and withdrawals with the real programs, from the filer's files to the inbox."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bistro.errors import RefusedError, SettingsError, UnavailableError
from bistro.protocol.submission import Submission, SubmissionState
from bistro_client import keyring
from bistro_client.changing import amendment, withdrawal
from bistro_client.submitting import Wish
from tests.integration.test_client_path import Filer, filing
from tests.unit.client.worlds import sealed_of

FIRST = {"report.pdf": b"first"}


def other_files(filer: Filer) -> Path:
    path = filer.w.root / "second.pdf"
    path.write_bytes(b"second")
    return path


async def submit(filer: Filer, wish: Wish) -> Submission:
    done = await filer.submitter().submit(wish)
    assert done.state is SubmissionState.STAGED
    return done


async def open_call(filer: Filer) -> None:
    await filer.w.collect()
    filer.w.pass_stage_by()
    while not filer.w.site.server.calls.get("spring").is_closed:  # noqa: ASYNC110 - its own part
        await asyncio.sleep(0.005)
    await filer.w.open()


async def outcome(filer: Filer, name: str) -> str | None:
    return (await filer.submitter().look(filer.home.folder(name))).outcome


async def test_an_amendment_takes_the_place_of_what_it_amends(tmp_path: Path) -> None:
    """Same key, same slot; the earlier files are never unpacked, and both filers' proofs hold."""
    async with filing(tmp_path) as filer:
        folder = await filer.submit(FIRST, form="permit", slot="lot-1")
        done = await submit(filer, amendment(folder, [other_files(filer)]))
        header = sealed_of(done).signed.header
        assert (header.kind, header.slot, done.request.form) == ("amend", "lot-1", "permit")
        assert filer.listener.text("on-time")
        assert "YOUR AMENDMENT IS ON TIME" in [
            notice.text.partition(":")[0] for notice in filer.listener.notices
        ]
        await open_call(filer)
        assert await outcome(filer, folder.id) == "superseded"
        assert await outcome(filer, done.id) == "opened"
        inbox = filer.w.inbox / sealed_of(done).commitment.hex() / "files"
        assert (inbox / "second.pdf").read_bytes() == b"second"
        for one in (folder, filer.home.folder(done.id)):
            assert filer.verify(one.evidence).holds


async def test_what_was_withdrawn_is_not_opened(tmp_path: Path) -> None:
    """A withdrawal has no files, a ticket and receipts, and nothing lies in the inbox."""
    async with filing(tmp_path) as filer:
        folder = await filer.submit(FIRST)
        done = await submit(filer, withdrawal(folder))
        assert sealed_of(done).signed.header.kind == "withdraw"
        await open_call(filer)
        assert await outcome(filer, folder.id) == "withdrawn"
        assert await outcome(filer, done.id) == "withdrawn"
        assert not list(filer.w.inbox.glob("*/files"))
        assert filer.verify(filer.home.folder(done.id).evidence).holds


async def test_another_key_changes_nothing(tmp_path: Path) -> None:
    """Only the holder of the key can; somebody else hears so before anything is sent."""
    async with filing(tmp_path) as filer:
        folder = await filer.submit(FIRST)
        filer.home.key_file.unlink()
        keyring.create(filer.home.key_file)
        before = len(filer.home.folders())
        with pytest.raises(SettingsError, match="signed the earlier submission"):
            await filer.submitter().submit(withdrawal(folder))
        assert len(filer.home.folders()) == before


async def test_without_a_ticket_there_is_nothing_to_change(tmp_path: Path) -> None:
    """The destination has never heard of it."""
    async with filing(tmp_path) as filer:
        filer.wire.changes["/tickets"] = lambda _: b"nonsense"
        with pytest.raises(UnavailableError):
            await filer.submitter(limit_ms=2_000).submit(
                Wish(paths=(other_files(filer),), url=filer.wire.url)
            )
        (folder,) = filer.home.folders()
        with pytest.raises(RefusedError, match="no ticket") as caught:
            withdrawal(folder)
        assert "bistro resume" in caught.value.hint
