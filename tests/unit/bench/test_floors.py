"""Floors do the work that they are described to do."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import pytest

from bistro.wire.claim import Claim
from bistro.wire.discovery import RelayDiscovery
from bistro.wire.served_terms import ServedTerms
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import TicketAnswers, Ticketed
from tests.bench.destination import ORIGIN, Destination
from tests.bench.floors import bulk, restoring, sealing
from tests.bench.floors.stamping import MemoryLog, unsigned
from tests.bench.loads.tickets import bulk_body
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key, relay_named

BATCHES = (1, 1, 2, 3, 7, 100, 5, 1, 64, 129)


def test_every_ticket_of_the_fast_log_verifies() -> None:
    """A floor that skipped nodes of the tree would be too fast."""
    ledger = MemoryLedger(note_key(str(ORIGIN)))
    log = MemoryLog(str(ORIGIN), lambda size, _: ledger.checkpoint_note(size))
    for number, count in enumerate(BATCHES):
        commitments = [secrets.token_bytes(32) for _ in range(count)]
        head = f"bistro/ticket/v1\n{ORIGIN}\n{number}\nsha256:"
        for commitment in commitments:
            ledger.append(f"{head}{commitment.hex()}\n".encode())
        tickets = log.stamp(commitments, number)
        for commitment, text in zip(commitments, tickets, strict=True):
            Ticket.parse(text).verify(ledger.key.verifier, ORIGIN, commitment)
    assert log.size == sum(BATCHES)


def test_the_bulk_floor_answers_what_a_client_understands() -> None:
    """All of the work but the signature and the disk."""
    log = MemoryLog(bulk.ORIGIN, unsigned(bulk.ORIGIN))
    answers = TicketAnswers.decode(bulk.answer(log, bulk_body(secrets.token_bytes(32), 10), 5))
    assert answers.is_bulk
    tickets = [Ticket.parse(one.ticket) for one in answers.items if isinstance(one, Ticketed)]
    assert [ticket.index for ticket in tickets] == list(range(10))


@pytest.mark.parametrize("share_checkpoint", [True, False])
def test_claims_for_relays_hold(*, share_checkpoint: bool) -> None:
    """A relay that is measured must find nothing to refuse."""
    destination = Destination()
    relay = relay_named("relay.bench.example")
    discovery = RelayDiscovery(
        name=relay.name,
        operator=relay.operator,
        region=relay.region,
        vkey=relay.vkey,
        base_url=relay.url,
        destinations=(),
        free_bytes=1,
        load=0,
        accepting=True,
    )
    destination.publish("http://127.0.0.1:1", discovery)
    served = ServedTerms.decode(destination.documents["/calls/spring/terms"])
    served.signed.verify(destination.terms_key.verifier)
    log_key = served.signed.terms.keys.log
    fragments = destination.fragments(b"fragment", 3, share_checkpoint=share_checkpoint)
    checkpoints = set()
    for fragment in fragments:
        claim = Claim.decode(fragment.claim)
        assert claim.commitment == fragment.commitment
        ticket = Ticket.parse(claim.promise)
        checkpoints.add(ticket.verify(log_key, ORIGIN, claim.commitment))
    assert len(checkpoints) == (1 if share_checkpoint else 3)


def test_the_sealing_floor_hashes_what_it_writes(tmp_path: Path) -> None:
    """All bytes pass through both threads, the short last chunk included."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(secrets.token_bytes(3 * sealing.CHUNK_SIZE + 17))
    found = sealing.seal(source, target)
    assert found == hashlib.sha256(target.read_bytes()).hexdigest()
    assert target.stat().st_size == source.stat().st_size + 4 * sealing.TAG_SIZE


def test_the_restoring_floor_writes_every_byte(tmp_path: Path) -> None:
    """Fragments by turns, piece by piece."""
    paths = [tmp_path / str(index) for index in range(2)]
    for path in paths:
        path.write_bytes(secrets.token_bytes(restoring.PIECE_SIZE + 5))
    target = tmp_path / "target"
    found = restoring.restore(paths, target)
    assert found == hashlib.sha256(target.read_bytes()).hexdigest()
    assert target.stat().st_size == 2 * (restoring.PIECE_SIZE + 5)
