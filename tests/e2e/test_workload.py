"""A deadline, replayed in small with real processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.workload.__main__ import INVALID, main

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_nobody_is_late_who_asked_in_time(tmp_path: Path) -> None:
    """Few filers, ten seconds; a busy machine may make the generator late, never a filer."""
    page = tmp_path / "page.html"
    options = ["--profile", "D", "--seconds", "10", "--scale", "0.02", "--reads"]
    done = CliRunner().invoke(main, [*options, "--page", str(page)])
    assert done.exit_code in {0, INVALID}, done.output
    assert "BROKEN" not in done.output
    assert re.search(r"hold a signed refusal, 0 nothing", done.output)
    assert "root recomputed; every ticket looked up" in done.output
    assert "<svg" in page.read_text(encoding="utf-8")
