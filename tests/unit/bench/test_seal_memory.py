"""The measurement of memory measures what it says."""

from __future__ import annotations

from click.testing import CliRunner

from tests.bench.seal_memory import ALLOWED_GROWTH, MB, Found, is_flat, main, peak_memory


def test_each_size_is_sealed_in_a_process_of_its_own() -> None:
    """What this process used before must not hide what sealing needs."""
    held = bytearray(b"x") * (200 * MB)
    done = CliRunner().invoke(main, ["--most-mb", "1"])
    assert done.exit_code == 0, done.output
    assert "memory is flat" in done.output
    peak = float(done.output.splitlines()[1].split()[2])
    assert 10 < peak < len(held) / MB <= peak_memory() / MB


def test_growth_is_told_from_buffers_that_fill() -> None:
    """More than the buffers can explain is growth."""
    small, filled = Found(MB, 50 * MB, 1.0), Found(100 * MB, 60 * MB, 1.0)
    assert is_flat([small, filled])
    assert not is_flat([small, filled, Found(1_000 * MB, 50 * MB + ALLOWED_GROWTH + 1, 1.0)])
