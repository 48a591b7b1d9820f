"""Clients that load a server, each in a process of its own, and what they report."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.bench.measuring import NotMeasured


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
