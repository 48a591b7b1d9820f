"""Plain ticket requests in columns, on their way through the sequencers of their call.

Source: docs/spec/ticketing.md, decision, refusals; docs/decisions/0019-tickets-in-columns.md.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from bistro.errors import BistroError, DeadlinePassedError, UnavailableError
from bistro.instant import UnixMillis
from bistro.ledger.appended import Stamped
from bistro.ledger.claims import Claim, Lot
from bistro.wire.plain_ticket import before_refusal, before_ticket
from bistro_server.services.ledgers import refusal_key, ticket_key
from bistro_server.services.ticket_items import Item, Refusal
from bistro_server.services.ticket_parties import Party, Promises

_TICKET: bytes = ticket_key(b"")
_REFUSAL: bytes = refusal_key(b"")


class PartyLot(Lot):
    """Commitments of one party that want the same.

    Args:
        party: Who asked.
        places: Which items of theirs.
        commitments: One for each place.
        prefix: What every key begins with.
        received_at: When the last byte of all had been read.
    """

    __slots__ = ("_commitments", "_party", "_places", "_spelled")

    def __init__(
        self,
        party: Party,
        places: Sequence[int],
        commitments: list[bytes],
        prefix: bytes,
        received_at: UnixMillis,
    ) -> None:
        super().__init__([prefix + one for one in commitments], received_at)
        self._party = party
        self._places = places
        self._commitments = commitments
        self._spelled: list[bytes] = []

    def prune(self) -> None:
        """Leave out those for whom nobody waits any more."""
        if gone := self._party.gone():
            self._drop([at for at, place in enumerate(self._places) if place in gone])

    def part(self, positions: Sequence[int]) -> list[Claim]:
        """Give up some, as claims."""
        claims = [self._claim(self._places[at], self._commitments[at]) for at in positions]
        self._drop(positions)
        return claims

    def _drop(self, positions: Sequence[int]) -> None:
        dropped = set(positions)
        kept = [at for at in range(len(self.keys)) if at not in dropped]
        self.keys = [self.keys[at] for at in kept]
        self._places = [self._places[at] for at in kept]
        self._commitments = [self._commitments[at] for at in kept]

    def prepare(self, stamped: Stamped, begin: int) -> None:
        """Spell the tickets, or the refusals, while they become durable."""
        promises = Promises(stamped.proofs, begin, begin + self.count, self._before)
        self._spelled = self._party.spell(promises)

    def settle(self, stamped: Stamped, begin: int) -> None:
        """Hand them on."""
        del stamped, begin
        self._party.put_spelled(self._places, self._spelled)

    @staticmethod
    @abstractmethod
    def _before(size: int) -> bytes:
        """What makes an answer of a text of so many bytes that follows."""

    @abstractmethod
    def _claim(self, place: int, commitment: bytes) -> Claim:
        """One of them as a claim."""


class TicketLot(PartyLot):
    """Commitments that want tickets, without admission, all for the same terms.

    Args:
        party: Who asked.
        places: Which items of theirs.
        commitments: One for each place.
        terms_hash: Of the terms that the requests name.
        received_at: When the last byte of all had been read.
    """

    __slots__ = ("_late_at", "_terms_hash")
    _before = staticmethod(before_ticket)

    def __init__(
        self,
        party: Party,
        places: Sequence[int],
        commitments: list[bytes],
        terms_hash: bytes,
        received_at: UnixMillis,
    ) -> None:
        super().__init__(party, places, commitments, _TICKET, received_at)
        self._terms_hash = terms_hash
        self._late_at: UnixMillis | None = None

    def _claim(self, place: int, commitment: bytes) -> Claim:
        return Item(self._party, place, (commitment, self._terms_hash), self.received_at)

    def build(self, time: UnixMillis) -> list[bytes]:
        """The tickets' entries, unless the rules refuse them."""
        ledgers = self._party.ledgers
        ledgers.rules.require_right(
            self._terms_hash,
            has_admission=False,
            received_at=self.received_at,
            is_opened=ledgers.is_opened,
        )
        try:
            return ledgers.rules.spell_tickets(time, self._commitments)
        except DeadlinePassedError:
            self._late_at = time
            raise

    def fail(self, error: BistroError) -> None:
        """Ask for refusals, or say why there are none."""
        if self._late_at is None:
            self._party.postpone(self._places, self.received_at, error)
            return
        refusals = RefusalLot(self._party, self._places, self._commitments, self._late_at)
        try:
            self._party.ledgers.refusals_sequencer.enqueue([refusals])
        except UnavailableError as exc:
            refusals.decline(exc)


class RefusalLot(PartyLot):
    """Commitments that came too late.

    Args:
        party: Who asked.
        places: Which items of theirs.
        commitments: One for each place.
        late_at: The time that their tickets would have got.
    """

    __slots__ = ()
    _before = staticmethod(before_refusal)

    def __init__(
        self,
        party: Party,
        places: Sequence[int],
        commitments: list[bytes],
        late_at: UnixMillis,
    ) -> None:
        super().__init__(party, places, commitments, _REFUSAL, late_at)

    def _claim(self, place: int, commitment: bytes) -> Claim:
        return Refusal(self._party, place, commitment, self.received_at)

    def build(self, time: UnixMillis) -> list[bytes]:
        """The refusals' entries."""
        return self._party.ledgers.rules.spell_refusals(time, self._commitments)

    def fail(self, error: BistroError) -> None:
        """Say why there are none."""
        self._party.postpone(self._places, self.received_at, error)
