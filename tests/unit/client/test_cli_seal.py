"""``bistro seal``: a folder for couriers and foreign tus clients, written whole or not listed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from bistro.errors import StorageError
from bistro.protocol.submission import Step
from bistro_client.courier import hand_out
from bistro_client.evidence_file import load_terms
from tests.support.disks import FaultyDisk, How
from tests.unit.client.commands import running_bistro
from tests.unit.client.worlds import real_time, world


async def test_the_command_writes_the_folder_and_uploads_nothing(tmp_path: Path) -> None:
    """On time; nothing at a relay; an address and a field for every fragment; nothing secret."""
    async with real_time(tmp_path) as w:
        out = tmp_path / "kit"
        arguments = ("--to", w.url, "--out", out, "--home", w.home.root)
        ran = await running_bistro("seal", w.files(70_000), *arguments, "--json")
        assert ran.code == 0, ran.err
        assert ran.document["submission"]["state"] == "ticketed"
        assert ran.document["uploads"] == str(out / "uploads.json")
        assert w.held == {}
        kit = json.loads((out / "uploads.json").read_bytes())
        names = {path.name for path in out.iterdir()}
        assert names == {"uploads.json", *(one["file"] for one in kit["fragments"])}
        endpoints = {one["endpoint"] for one in kit["relays"]}
        assert {one["endpoint"] for one in kit["fragments"]} <= endpoints
        assert all(one.endswith("/uploads") for one in endpoints)
        key = w.only_folder().file_key.read_bytes().strip()
        for path in out.iterdir():
            assert key not in path.read_bytes()
            assert b"report-0.pdf" not in path.read_bytes()


async def test_a_folder_that_holds_something_is_refused_first(tmp_path: Path) -> None:
    """Before anything is sealed or sent."""
    async with real_time(tmp_path) as w:
        out = tmp_path / "kit"
        out.mkdir()
        (out / "precious").write_bytes(b"x")
        for where in (out, out / "precious"):
            arguments = ("--to", w.url, "--out", where, "--home", w.home.root)
            ran = await running_bistro("seal", w.files(), *arguments)
            assert ran.code == 2
            ran.require_two_lines()
        assert w.home.folders() == []
        assert (out / "precious").read_bytes() == b"x"


@pytest.mark.parametrize("mode", ["not-stored", "stored", "full"])
async def test_a_disk_that_fails_leaves_no_list_of_what_is_not_there(
    tmp_path: Path, mode: How
) -> None:
    """At each of its operations, or a list of what is whole; again into a new folder is whole."""
    async with world(tmp_path) as w:
        submission = await w.submitter().submit(w.wish(), until=Step.UPLOAD)
        folder = w.only_folder()
        terms = load_terms(folder)[-1].signed.terms
        whole = tmp_path / "whole"
        hand_out(folder, submission, terms, whole)
        failed = 0
        for at in range(200):
            disk, out = FaultyDisk(), tmp_path / f"kit-{at}"
            disk.fail_at(at, mode)
            try:
                hand_out(folder, submission, terms, out, disk=disk)
            except StorageError:
                failed += 1
                if (out / "uploads.json").exists():
                    assert digests(out) == digests(whole), "listed is only what is there"
            else:
                break
        else:
            pytest.fail("it never came to its end")
        assert failed > 5
        assert digests(out) == digests(whole)


async def test_a_damaged_fragment_is_handed_to_nobody(tmp_path: Path) -> None:
    """Its carrier could not tell, and a relay would say so when it may be too late."""
    async with world(tmp_path) as w:
        submission = await w.submitter().submit(w.wish(), until=Step.UPLOAD)
        folder = w.only_folder()
        data = bytearray(folder.fragment(0).read_bytes())
        data[7] ^= 1
        folder.fragment(0).write_bytes(data)
        out = tmp_path / "kit"
        with pytest.raises(StorageError, match=r"0\.fragment: .* missing or damaged"):
            hand_out(folder, submission, load_terms(folder)[-1].signed.terms, out)
        assert not (out / "uploads.json").exists()


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
