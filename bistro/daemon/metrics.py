"""Metrics that every daemon has: HTTP requests and restarted parts, one registry per app.

Labels are route templates, error codes, methods, statuses and part names: sets that the code
fixes. A commitment, address or upload never becomes a label.

Source: docs/reference/metrics.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    exposition,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST

_DURATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


def new_registry() -> CollectorRegistry:
    """A registry of its own for one app, with the facts about the process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """All metrics in Prometheus' text format."""
    return exposition.generate_latest(registry)


class Durations(Collector):
    """How long requests took, by route; many that took the same time are counted at once.

    Args:
        registry: Where it lives.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, route: str, took_s: float, count: int = 1) -> None:
        """Count requests that took this long each."""
        counts = self._counts.get(route)
        if counts is None:
            counts = self._counts[route] = [0] * (len(_DURATION_BUCKETS_S) + 1)
            self._sums[route] = 0.0
        counts[bisect_left(_DURATION_BUCKETS_S, took_s)] += count
        self._sums[route] += took_s * count

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What the registry asks for."""
        family = HistogramMetricFamily(
            "bistro_http_request_duration_seconds",
            "Time from the request's head to the answer's last byte",
            labels=["route"],
        )
        limits = [*map(str, map(float, _DURATION_BUCKETS_S)), "+Inf"]
        for route, counts in self._counts.items():
            buckets = list(zip(limits, accumulate(counts), strict=True))
            family.add_metric([route], buckets, self._sums[route])
        yield family


@dataclass(frozen=True)
class HttpMetrics:
    """What the HTTP part counts, by route template."""

    requests: Counter
    durations: Durations
    errors: Counter
    open_requests: Gauge

    @classmethod
    def register(cls, registry: CollectorRegistry) -> HttpMetrics:
        """Declare the metrics in ``registry``."""
        return cls(
            requests=Counter(
                "bistro_http_requests_total",
                "Requests answered",
                ["method", "route", "status"],
                registry=registry,
            ),
            durations=Durations(registry),
            errors=Counter(
                "bistro_http_errors_total",
                "Requests answered with a problem document, by error code",
                ["route", "code"],
                registry=registry,
            ),
            open_requests=Gauge(
                "bistro_http_open_requests", "Requests being answered now", registry=registry
            ),
        )


@dataclass(frozen=True)
class PartMetrics:
    """How often a part was started again; pass ``count_restart`` to ``supervise.run``."""

    restarts: Counter

    @classmethod
    def register(cls, registry: CollectorRegistry) -> PartMetrics:
        """Declare the metrics in ``registry``."""
        return cls(
            restarts=Counter(
                "bistro_part_restarts_total",
                "Times a part was started again after something was unavailable",
                ["part"],
                registry=registry,
            )
        )

    def count_restart(self, part: str) -> None:
        """Count one restart of ``part``."""
        self.restarts.labels(part).inc()
