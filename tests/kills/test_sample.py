"""A few runs of the campaign, and proof that it would notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kills.campaign import Orders, Result, conduct

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SEED = 20_261_123


async def campaign(root: Path, *, runs: int, sabotage: str = "") -> Result:
    """Some runs in one town."""
    orders = Orders(seed=SEED, runs=runs, per_town=runs, jobs=2, home=root, sabotage=sabotage)
    return await conduct(orders, lambda report: None)


async def test_a_killed_client_goes_on_with_one_ticket(tmp_path: Path) -> None:
    """One ticket a submission, nothing lost, nothing twice, counted where they are held."""
    result = await campaign(tmp_path, runs=8)
    assert result.faults == []
    assert result.problems == []
    assert result.hits.total() >= 4
    assert result.checked["tickets"] == 8
    assert result.checked["fragments at relays"] == 24
    assert result.checked["filings in the inbox"] == 8


async def test_a_client_that_forgets_is_found(tmp_path: Path) -> None:
    """With its journals deleted after a kill it files again, and the audit counts that."""
    result = await campaign(tmp_path, runs=8, sabotage="forget")
    assert any(fault.startswith(("tickets:", "fragments")) for fault in result.faults)
