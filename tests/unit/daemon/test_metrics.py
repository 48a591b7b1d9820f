"""Metrics: a registry of its own for each app."""

from __future__ import annotations

from bistro.daemon.metrics import HttpMetrics, PartMetrics, new_registry, render


def test_two_apps_in_one_process_count_apart() -> None:
    """Tests and embeddings run several daemons beside each other."""
    first, second = new_registry(), new_registry()
    HttpMetrics.register(first)
    HttpMetrics.register(second).requests.labels("GET", "terms", "200").inc()
    line = b'bistro_http_requests_total{method="GET",route="terms",status="200"} 1.0'
    assert line not in render(first)
    assert line in render(second)


def test_restarts_are_counted_by_part() -> None:
    """An operator sees which part has trouble."""
    registry = new_registry()
    PartMetrics.register(registry).count_restart("terms")
    assert b'bistro_part_restarts_total{part="terms"} 1.0' in render(registry)
    assert b"python_info" in render(registry)
