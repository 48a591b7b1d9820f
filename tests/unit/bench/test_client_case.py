"""The client's cases run, and yield every measure that they name."""

from __future__ import annotations

import pytest

from tests.bench.cases.client import MIB, cases
from tests.bench.measuring import Case


@pytest.mark.parametrize("case", cases(seal_size=MIB), ids=lambda case: case.measures[0].name)
def test_every_measure_is_measured(case: Case) -> None:
    """By ours and by the floor, where there is one."""
    names = {measure.name for measure in case.measures}
    with case.open() as contest:
        assert set(contest.ours()) == names
        if contest.floor is not None:
            assert set(contest.floor()) == names
