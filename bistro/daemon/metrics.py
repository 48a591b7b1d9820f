"""Metrics that every daemon has: HTTP requests and restarted parts, one registry per app.

Labels are route templates, error codes, methods, statuses and part names: sets that the code
fixes. A commitment, address or upload never becomes a label.

Source: docs/reference/metrics.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    exposition,
)

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


@dataclass(frozen=True)
class HttpMetrics:
    """What the HTTP part counts, by route template."""

    requests: Counter
    durations: Histogram
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
            durations=Histogram(
                "bistro_http_request_duration_seconds",
                "Time from the request's head to the answer's last byte",
                ["route"],
                buckets=_DURATION_BUCKETS_S,
                registry=registry,
            ),
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
