"""Promises are verified by a program that is not ours and knows nothing of Bistro.

``proofbundle verify-proof`` implements C2SP tlog-proof on its own. It is given what a court
would be given: the proof text, the entry that the text carries, the vkey and the log's name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bistro.crypto.signing import VerifierKey
from bistro.wire.proof import Proof
from bistro.wire.receipt import Receipt
from bistro.wire.refusal import Refusal
from bistro.wire.ticket import Ticket
from tests.support.evidence import CLOSES, ORIGIN, RELAYS, Filing
from tests.support.strategies import note_key

VERIFIER = Path(sys.executable).with_name("proofbundle")
LOG_KEY = note_key(str(ORIGIN)).verifier


@dataclass(frozen=True)
class Case:
    """A promise, and what a stranger needs to check it."""

    text: str
    key: VerifierKey


def promises() -> dict[str, Case]:
    """A ticket, a refusal and a receipt from ledgers of several sizes."""
    filing = Filing().others(5, CLOSES - 1).ticketed().others(3, CLOSES).staged().refused()
    ticket = filing.log.prove(6).format().decode()
    custody = ORIGIN.custody(RELAYS[1])
    return {
        "ticket": Case(filing.evidence.ticket or "", LOG_KEY),
        "ticket under a later checkpoint": Case(ticket, LOG_KEY),
        "refusal": Case(filing.evidence.refusal or "", LOG_KEY.renamed(ORIGIN.refusals)),
        "receipt": Case(filing.evidence.receipts[1], note_key(RELAYS[1]).verifier.renamed(custody)),
    }


CASES = promises()


def verdict(case: Case, folder: Path, *, entry: bytes) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of the foreign verifier."""
    if not VERIFIER.exists():
        pytest.fail("proofbundle is missing: install the dependency group test")
    proof, payload = folder / "promise.tlog-proof", folder / "entry"
    proof.write_text(case.text, encoding="utf-8", newline="")
    payload.write_bytes(entry)
    arguments = [
        *("verify-proof", str(proof), "--payload-file", str(payload), "--json"),
        *("--log-vkey", case.key.format(), "--expected-origin", case.key.name),
    ]
    done = subprocess.run([str(VERIFIER), *arguments], capture_output=True, check=False, timeout=25)
    answer = json.loads(done.stdout) if done.stdout.strip() else {}
    return done.returncode, answer


def entry_of(case: Case) -> bytes:
    """The entry that the proof text carries."""
    entry = Proof.parse(case.text).entry
    assert entry is not None
    return entry


@pytest.mark.parametrize("name", CASES)
def test_a_foreign_verifier_accepts_what_we_issue(name: str, tmp_path: Path) -> None:
    """Ticket, refusal and receipt hold outside of Bistro, too."""
    case = CASES[name]
    code, answer = verdict(case, tmp_path, entry=entry_of(case))
    assert (code, answer["ok"]) == (0, True), answer
    assert answer["origin"] == case.key.name
    assert answer["index"] == Proof.parse(case.text).index


@pytest.mark.parametrize("name", ["ticket", "receipt"])
def test_a_foreign_verifier_refuses_an_earlier_time(name: str, tmp_path: Path) -> None:
    """An entry that was dated back is not in the tree."""
    case = CASES[name]
    lines = entry_of(case).split(b"\n")
    lines[2] = str(int(lines[2]) - 1).encode()
    code, answer = verdict(case, tmp_path, entry=b"\n".join(lines))
    assert code != 0
    assert not answer["ok"]
    assert not answer["inclusion_ok"]


@pytest.mark.parametrize("name", ["ticket", "receipt"])
def test_a_foreign_verifier_refuses_a_changed_signature(name: str, tmp_path: Path) -> None:
    """The checkpoint stands under its maker's key alone."""
    case = CASES[name]
    at = len(case.text) - 12
    swapped = "A" if case.text[at] != "A" else "B"
    changed = Case(case.text[:at] + swapped + case.text[at + 1 :], case.key)
    code, answer = verdict(changed, tmp_path, entry=entry_of(case))
    assert code != 0
    assert not answer["ok"]


@pytest.mark.parametrize("name", ["ticket", "receipt"])
def test_a_foreign_verifier_refuses_the_key_of_another(name: str, tmp_path: Path) -> None:
    """A promise is its maker's, whatever the file says."""
    case = CASES[name]
    other = Case(case.text, note_key(case.key.name, seed="other").verifier)
    code, answer = verdict(other, tmp_path, entry=entry_of(case))
    assert code != 0
    assert not answer["ok"]


def test_our_verdict_on_the_same_promises_is_the_same() -> None:
    """The oracle and we agree on what we issue."""
    Ticket.parse(CASES["ticket"].text).verify(LOG_KEY, ORIGIN)
    Refusal.parse(CASES["refusal"].text).verify(LOG_KEY, ORIGIN)
    Receipt.parse(CASES["receipt"].text).verify(note_key(RELAYS[1]).verifier, ORIGIN)
