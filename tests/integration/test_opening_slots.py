"""Which filing of a slot counts: the last one, amended ones, those taken back."""

from __future__ import annotations

from pathlib import Path

from tests.support.world import world


async def test_the_last_submission_of_a_slot_counts(tmp_path: Path) -> None:
    """What it replaces is superseded, and never unpacked; other slots stand."""
    async with world(tmp_path) as found:
        first = await found.submit()
        second = await found.submit({"b.txt": b"second"}, nonce="2")
        other = await found.submit({"c.txt": b"other"}, slot="appendix")
        await found.collect_and_open()
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
        await found.collect_and_open()
        assert found.outcome(lapsed)[0] == "lapsed"
        assert found.outcome(amended) == ("opened", [])
        assert found.outcome(other) == ("rejected", ["unknown-previous"])


async def test_a_withdrawal_takes_back_what_stood(tmp_path: Path) -> None:
    """Both end as withdrawn."""
    async with world(tmp_path) as found:
        first = await found.submit()
        back = await found.submit({}, kind="withdraw", previous=first.commitment, nonce="2")
        stranger = await found.submit({}, filer="eve", kind="withdraw", previous=first.commitment)
        await found.collect_and_open()
        assert found.outcome(first) == ("withdrawn", [])
        assert found.outcome(back) == ("withdrawn", [])
        assert found.outcome(stranger) == ("rejected", ["unknown-previous"])
