"""Clients that load a server, each in a process of its own, and what they report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from tests.bench.measuring import NotMeasured

LATE_LIMIT_MS: Final = 10.0
"""More than one request in a thousand begun later than that: what came was not what was meant."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load process saw.

    Attributes:
        answered: Requests that got a good answer.
        seconds: From the first request to the last answer that counts.
        busy: Share of that time in which the server's core was busy; ``None``: not looked at.
    """

    answered: int
    seconds: float
    busy: float | None = None

    @classmethod
    def parse(cls, output: str) -> Load:
        """The report on the last line of a load's output.

        Raises:
            NotMeasured: Requests failed, or none was answered.
        """
        lines = output.strip().splitlines()
        try:
            report = json.loads(lines[-1])
        except (IndexError, ValueError) as exc:
            raise NotMeasured(f"load: expected a report, found {output[-300:]!r}") from exc
        if report["failed"] or not report["answered"]:
            raise NotMeasured(f"load: {report['failed']} requests failed: {report['problem']}")
        return cls(report["answered"], report["seconds"], report.get("busy"))

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds


@dataclass(frozen=True, slots=True)
class Timed:
    """What an open loop saw.

    Attributes:
        offered: Requests that were due.
        answered: Of them, those that got a ticket.
        refused: Of them, those that were told to come later.
        missing: Of them, those that got no answer.
        goodput: Tickets a second, after the time to settle.
        took_ms: From when a request was due to its ticket: median, 99th percentile, longest.
        late_ms: How late requests began: 99.9th percentile, longest.
        starved: How often a request was due while every connection waited for an answer.
        turned_away: Requests that were left out for that, where it was asked for.
        seconds: How long requests were offered.
        left_out: Requests that were never begun, since the client was a second late.
        busy: Share of the time after settling in which the server's core was busy.
        own: Share of the core that the server had then.
    """

    offered: int
    answered: int
    refused: int
    missing: int
    goodput: float
    took_ms: tuple[float, float, float]
    late_ms: tuple[float, float]
    seconds: float
    starved: int = 0
    turned_away: int = 0
    left_out: int = 0
    busy: float | None = None
    own: float | None = None

    @classmethod
    def parse(cls, output: str) -> Timed:
        """The report on the last line of a load's output.

        Raises:
            NotMeasured: Requests were answered with neither a ticket nor a refusal.
        """
        lines = output.strip().splitlines()
        try:
            fields = json.loads(lines[-1])
        except (IndexError, ValueError) as exc:
            raise NotMeasured(f"load: expected a report, found {output[-300:]!r}") from exc
        if failed := fields.pop("failed"):
            raise NotMeasured(f"load: {failed} requests failed, or lost their connection")
        for name in ("took_ms", "late_ms"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    @property
    def doubt(self) -> str | None:
        """Why this says nothing about the server, or ``None``."""
        why = "; connections were too few" if self.starved else ""
        if self.left_out:
            return f"{self.left_out} requests were given up, a second late{why}"
        if self.late_ms[0] > LATE_LIMIT_MS:
            return f"one request in 1,000 began {self.late_ms[0]:.1f} ms late or more{why}"
        return None
