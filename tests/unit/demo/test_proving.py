"""What the demo makes of the words of ``bistro verify``: nothing unsaid is taken for good."""

from __future__ import annotations

import json
from pathlib import Path

from bistro.instant import UnixMillis
from tests.e2e.demo.cast import Finished
from tests.e2e.demo.proving import faults_of

FILES = {"a": Path("/x/a.json"), "b": Path("/x/b.json")}
PARTS = frozenset({"ticket", "minutes"})
SHOWN = [{"state": "ok", "part": part, "text": ""} for part in sorted(PARTS)]
GOOD = {"file": "/x/a.json", "holds": True, "findings": SHOWN}


def said(exit_code: int, *documents: object) -> Finished:
    """An ended ``bistro verify`` that said this of its files."""
    return Finished(
        argv=("bistro", "verify"),
        exit_code=exit_code,
        stdout=json.dumps({"files": documents}),
        stderr="its words",
        began_at=UnixMillis(0),
        ended_at=UnixMillis(1),
    )


def test_files_that_hold_and_show_everything_have_no_fault() -> None:
    """The only way to be good: exit code 0, and a document for each file that says so."""
    assert faults_of(said(0, GOOD, GOOD | {"file": "/x/b.json"}), FILES, PARTS) == {}


def test_a_file_that_fails_is_named_with_what_failed() -> None:
    """And the others are not blamed for it."""
    failed = {"state": "failed", "part": "ticket", "text": "another key signed it"}
    bad = {"file": "/x/b.json", "holds": False, "findings": [failed]}
    found = faults_of(said(4, GOOD, bad), FILES, PARTS)
    assert found == {"b": "ticket: another key signed it"}


def test_a_file_that_could_not_be_read_is_a_fault() -> None:
    """There are no findings then, but an error."""
    error = {"file": "/x/b.json", "holds": False, "error": {"code": "malformed"}}
    assert "malformed" in faults_of(said(4, GOOD, error), FILES, PARTS)["b"]


def test_evidence_that_shows_too_little_is_a_fault() -> None:
    """In the end the minutes must be there, not only a ticket."""
    poor = {"file": "/x/b.json", "holds": True, "findings": SHOWN[1:]}
    found = faults_of(said(0, GOOD, poor), FILES, PARTS)
    assert found == {"b": "it does not show minutes"}


def test_silence_is_a_fault() -> None:
    """A file that is not mentioned was not verified."""
    assert set(faults_of(said(0, GOOD), FILES, PARTS)) == {"b"}
    assert set(faults_of(said(1), FILES, PARTS)) == {"a", "b"}


def test_an_exit_code_counts_even_where_all_documents_look_good() -> None:
    """Both have to say the same."""
    found = faults_of(said(4, GOOD, GOOD | {"file": "/x/b.json"}), FILES, PARTS)
    assert set(found) == {"a", "b"}
