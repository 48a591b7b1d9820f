"""The command line after submitting: status and resume, and what they say of damage."""

from __future__ import annotations

from pathlib import Path

from tests.unit.client.commands import bistro, running_bistro, submit
from tests.unit.client.worlds import real_time


async def test_unavailable_says_where_the_filer_stands(tmp_path: Path) -> None:
    """On time but not staged: what is safe, and that resume goes on; and then it does."""
    async with real_time(tmp_path) as w:
        for relay in w.relays:
            relay.how = "silent"
        ran = await submit(w, "--patience", "100ms")
        assert ran.code == 5
        ran.require_two_lines()
        assert "you ARE on time" in ran.err
        assert "resume" in ran.err
        for relay in w.relays:
            relay.how = "good"
        again = await running_bistro("resume", "--home", w.home.root)
        assert again.code == 0, again.err
        assert "and staged" in again.out
        assert (await running_bistro("resume", "--home", w.home.root)).code == 0


async def test_status_is_a_table(tmp_path: Path) -> None:
    """Every submission with its state; damaged ones are named and do not hide the others."""
    async with real_time(tmp_path) as w:
        assert "no submissions yet" in bistro("status", "--home", w.home.root).out
        await submit(w)
        await submit(w)
        first, second = w.home.folders()
        ran = await running_bistro("status", "--home", w.home.root)
        assert ran.code == 0, ran.err
        assert first.id in ran.out
        assert "3 of 3, 2 needed" in ran.out
        first.journal.write_bytes(b"{}")
        ran = await running_bistro("status", "--home", w.home.root)
        assert ran.code == 1
        ran.require_two_lines()
        assert "--recover" in ran.err
        assert "damaged" in ran.out
        assert second.id in ran.out
        document = (await running_bistro("status", "--json", "--home", w.home.root)).document
        assert [one["id"] for one in document["submissions"]] == [first.id, second.id]
        assert document["submissions"][0]["error"]["code"] == "storage"
        w.wire.down = True
        offline = await running_bistro("status", "--offline", "--home", w.home.root)
        assert second.id in offline.out
        silent = await running_bistro(
            "status", second.id, "--patience", "10ms", "--home", w.home.root
        )
        assert silent.code == 5
        assert "as last known" in silent.out


async def test_resume_goes_on_past_a_damaged_one(tmp_path: Path) -> None:
    """One that fails is told; the others are finished; recovery is one option away."""
    async with real_time(tmp_path) as w:
        for relay in w.relays:
            relay.how = "silent"
        await submit(w, "--patience", "1ms")
        await submit(w, "--patience", "1ms")
        for relay in w.relays:
            relay.how = "good"
        first, _ = w.home.folders()
        first.journal.write_bytes(b"{}")
        ran = await running_bistro("resume", "--home", w.home.root)
        assert ran.code == 1
        assert "and staged" in ran.out
        assert "--recover" in ran.err
        one = await running_bistro("resume", first.id, "--recover", "--home", w.home.root)
        assert one.code == 0, one.err
        assert bistro("resume", "--recover", "--home", w.home.root).code == 2
