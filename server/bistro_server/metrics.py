"""What ``bistro-server`` counts, besides what every daemon does.

Source: docs/reference/metrics.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LEDGERS: Final = ("log", "refusals")

_SYNC_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_WAIT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000)


@dataclass(frozen=True, slots=True)
class LedgerMetrics:
    """What is counted of one kind of ledger; labels are looked up once, and not for each batch."""

    entries: Counter
    duplicates: Counter
    unstamped: Counter
    batch_sizes: Histogram
    batch_waits: Histogram
    batch_durations: Histogram

    def labelled(self, ledger: str) -> LedgerMetrics:
        """The same for one ledger; why something was not stamped remains a label."""
        return LedgerMetrics(
            entries=self.entries.labels(ledger),
            duplicates=self.duplicates.labels(ledger),
            unstamped=self.unstamped,
            batch_sizes=self.batch_sizes.labels(ledger),
            batch_waits=self.batch_waits.labels(ledger),
            batch_durations=self.batch_durations.labels(ledger),
        )


@dataclass(frozen=True)
class ServerMetrics:
    """Ledgers and ticket desk; ``ledger`` is ``log`` or ``refusals``, never a call."""

    ledgers: Mapping[str, LedgerMetrics]
    syncs: Histogram
    timestamps: Counter
    anchors: Counter
    interruptions: Counter
    anchor_waiting: Gauge
    waiting: Gauge
    unjudged: Counter
    limited: Counter
    calls: Gauge
    ready: Gauge
    clock_bound: Gauge
    clock_limit: Gauge
    clock_step: Gauge
    disk_free: Gauge
    disk_limit: Gauge
    certificate_ends: Gauge

    @classmethod
    def register(cls, registry: CollectorRegistry) -> ServerMetrics:
        """Declare the metrics in ``registry``."""
        ledgers = _ledger_metrics(registry)
        return cls(
            ledgers={ledger: ledgers.labelled(ledger) for ledger in LEDGERS},
            syncs=Histogram(
                "bistro_server_ledger_sync_seconds",
                "One file of a ledger becoming durable",
                buckets=_SYNC_BUCKETS_S,
                registry=registry,
            ),
            limited=Counter(
                "bistro_server_tickets_limited_total",
                "Tickets refused because the bucket of their address was empty",
                registry=registry,
            ),
            timestamps=Counter(
                "bistro_server_timestamps_total",
                "RFC 3161 requests answered, with a token or without",
                ["result"],
                registry=registry,
            ),
            unjudged=Counter(
                "bistro_server_tickets_unjudged_total",
                "Ticket requests with admissions that were turned away before they were judged",
                ["code"],
                registry=registry,
            ),
            anchors=Counter(
                "bistro_server_anchors_total",
                "Attempts to have a checkpoint stamped by another authority",
                ["result"],
                registry=registry,
            ),
            interruptions=Counter(
                "bistro_server_rounds_interrupted_total",
                "Rounds of closing calls and keeping statuses that have to be tried again",
                ["code"],
                registry=registry,
            ),
            anchor_waiting=Gauge(
                "bistro_server_anchor_waiting_seconds",
                "For how long the checkpoint that waited longest should be stamped; 0: none",
                registry=registry,
            ),
            waiting=Gauge(
                "bistro_server_tickets_waiting",
                "Ticket requests that wait for their answer now",
                registry=registry,
            ),
            calls=Gauge(
                "bistro_server_calls", "Calls in service, by state", ["state"], registry=registry
            ),
            ready=Gauge(
                "bistro_server_ready", "1 while tickets can be given, else 0", registry=registry
            ),
            clock_bound=Gauge(
                "bistro_server_clock_error_bound_seconds",
                "By how much the clock may be wrong; -1 where nobody knows",
                registry=registry,
            ),
            clock_limit=Gauge(
                "bistro_server_clock_error_limit_seconds",
                "Above this bound nothing is stamped",
                registry=registry,
            ),
            clock_step=Gauge(
                "bistro_server_clock_step_seconds",
                "By how much the clock has been set since the start, ahead or back",
                registry=registry,
            ),
            disk_free=Gauge(
                "bistro_server_disk_free_bytes", "Free bytes of the disk", registry=registry
            ),
            disk_limit=Gauge(
                "bistro_server_disk_min_free_bytes",
                "Free bytes below which the disk counts as full",
                registry=registry,
            ),
            certificate_ends=Gauge(
                "bistro_server_certificate_end_timestamp_seconds",
                "Unix time at which a certificate that is in use ends",
                ["certificate"],
                registry=registry,
            ),
        )

    def count_batch(
        self,
        ledger: str,
        *,
        appended: int,
        duplicates: int,
        unstamped: Mapping[str, int],
        waited_ms: int,
        took_ms: int,
    ) -> None:
        """Count one batch of a ledger; ``unstamped`` by error code."""
        counted = self.ledgers[ledger]
        if appended:
            counted.entries.inc(appended)
            counted.batch_sizes.observe(appended)
            counted.batch_waits.observe(waited_ms / 1_000)
            counted.batch_durations.observe(took_ms / 1_000)
        if duplicates:
            counted.duplicates.inc(duplicates)
        for code, count in unstamped.items():
            counted.unstamped.labels(ledger, code).inc(count)


def _ledger_metrics(registry: CollectorRegistry) -> LedgerMetrics:
    return LedgerMetrics(
        entries=Counter(
            "bistro_server_ledger_entries_total",
            "Entries made durable",
            ["ledger"],
            registry=registry,
        ),
        duplicates=Counter(
            "bistro_server_ledger_duplicates_total",
            "Requests answered with an entry that was there",
            ["ledger"],
            registry=registry,
        ),
        unstamped=Counter(
            "bistro_server_ledger_unstamped_total",
            "Requests that were judged and not stamped",
            ["ledger", "code"],
            registry=registry,
        ),
        batch_sizes=Histogram(
            "bistro_server_ledger_batch_entries",
            "Entries of a batch",
            ["ledger"],
            buckets=_BATCH_BUCKETS,
            registry=registry,
        ),
        batch_waits=Histogram(
            "bistro_server_ledger_batch_wait_seconds",
            "How long the oldest request of a batch had waited",
            ["ledger"],
            buckets=_WAIT_BUCKETS_S,
            registry=registry,
        ),
        batch_durations=Histogram(
            "bistro_server_ledger_batch_duration_seconds",
            "Signing, writing and syncing one batch",
            ["ledger"],
            buckets=_WAIT_BUCKETS_S,
            registry=registry,
        ),
    )
