"""What reports on evidence say, for tests of verification."""

from __future__ import annotations

from bistro.protocol.findings import Report, State
from bistro.protocol.verification import verify_evidence
from bistro.wire.evidence import Evidence
from tests.support.evidence import ORIGIN, SERVER_KEY
from tests.support.strategies import note_key

TRUST = SERVER_KEY.verifier
LOG_KEY = note_key(str(ORIGIN))


def check(evidence: Evidence) -> Report:
    """The report to one who trusts the server's key."""
    return verify_evidence(evidence, trust=TRUST)


def texts(report: Report, state: State, part: str) -> list[str]:
    """What the report says of a part."""
    return [one.text for one in report.findings if (one.state, one.part) == (state, part)]


def only_failure(evidence: Evidence) -> tuple[str, str]:
    """Part and text of the one thing that does not hold."""
    report = check(evidence)
    assert not report.exit_ok
    assert len(report.failures) == 1, report.failures
    return report.failures[0].part, report.failures[0].text
