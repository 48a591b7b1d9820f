"""What the relay counts. Labels are states and error codes only.

Source: docs/reference/metrics.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from bistro.ledger.sequencer import BatchReport

_SYNC_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_MS_PER_S = 1_000


@dataclass(frozen=True)
class RelayMetrics:
    """The relay's own metrics, beside those of every daemon."""

    uploads: Counter
    received: Counter
    sent: Counter
    open_uploads: Gauge
    held: Gauge
    free: Gauge
    traffic: Gauge
    traffic_limit: Gauge
    draining: Gauge
    paused: Gauge
    terms: Counter
    entries: Counter
    batches: Histogram

    @classmethod
    def register(cls, registry: CollectorRegistry) -> RelayMetrics:
        """Declare the metrics in ``registry``."""
        return cls(
            uploads=Counter(
                "bistro_relay_uploads_total",
                "Uploads that reached a state",
                ["state"],
                registry=registry,
            ),
            received=Counter(
                "bistro_relay_received_bytes_total",
                "Bytes of fragments made durable",
                registry=registry,
            ),
            sent=Counter(
                "bistro_relay_sent_bytes_total",
                "Bytes of fragments handed to destinations",
                registry=registry,
            ),
            open_uploads=Gauge(
                "bistro_relay_open_uploads", "Upload requests being answered now", registry=registry
            ),
            held=Gauge(
                "bistro_relay_used_bytes", "Bytes held or promised to uploads", registry=registry
            ),
            free=Gauge(
                "bistro_relay_free_bytes", "Bytes free for further fragments", registry=registry
            ),
            traffic=Gauge(
                "bistro_relay_traffic_bytes",
                "Bytes of fragments that came and left this month",
                registry=registry,
            ),
            traffic_limit=Gauge(
                "bistro_relay_traffic_limit_bytes",
                "The most that may come and leave in a month; 0: no limit",
                registry=registry,
            ),
            draining=Gauge(
                "bistro_relay_draining", "1 while no new upload is taken", registry=registry
            ),
            paused=Gauge(
                "bistro_relay_paused", "1 while nothing is handed over", registry=registry
            ),
            terms=Counter(
                "bistro_relay_terms_fetches_total",
                "Attempts to fetch a destination's terms, by how they ended",
                ["code"],
                registry=registry,
            ),
            entries=Counter(
                "bistro_relay_ledger_entries_total",
                "Entries written to custody ledgers",
                registry=registry,
            ),
            batches=Histogram(
                "bistro_relay_ledger_batch_seconds",
                "Time to sign, write and sync a batch of entries",
                buckets=_SYNC_BUCKETS_S,
                registry=registry,
            ),
        )

    def count_batch(self, report: BatchReport) -> None:
        """Count a batch of a custody ledger."""
        self.entries.inc(report.appended_count)
        self.batches.observe(report.took_ms / _MS_PER_S)
