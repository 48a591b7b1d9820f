"""What the relay tells about itself: discovery for everybody, status for its operator.

Source: docs/spec/api.md, relay discovery; docs/spec/commands.md.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from bistro.clock import Clock
from bistro.crypto.signing import VerifierKey
from bistro.errors import UnavailableError
from bistro.ids import Origin
from bistro.protocol.transfer import TransferState
from bistro.wire.discovery import FULL_LOAD, RelayDiscovery, ServedDestination
from bistro.wire.document import Json
from bistro_relay.services.accounts import Accounts
from bistro_relay.services.ledgers import CustodyLedgers
from bistro_relay.services.orders import StandingOrders
from bistro_relay.services.room import Gate, Room
from bistro_relay.services.terms_book import TermsBook
from bistro_relay.store.destinations import Destination
from bistro_relay.store.uploads import Tally, UploadStore


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this relay is."""

    name: str
    operator: str
    region: str
    vkey: VerifierKey
    base_url: str
    abuse_contact: str


class Overview:
    """Describes the relay as it is now."""

    def __init__(  # noqa: PLR0913 - it looks at all of these
        self,
        identity: Identity,
        *,
        book: TermsBook,
        uploads: UploadStore,
        ledgers: CustodyLedgers,
        room: Room,
        gate: Gate,
        orders: StandingOrders,
        accounts: Accounts,
        clock: Clock,
        quota_bytes: int | None,
    ) -> None:
        self._identity = identity
        self._book = book
        self._uploads = uploads
        self._ledgers = ledgers
        self._room = room
        self._gate = gate
        self._orders = orders
        self._accounts = accounts
        self._clock = clock
        self._quota_bytes = quota_bytes

    async def require_ready(self) -> None:
        """Accept a state in which uploads can be finished with a receipt; also while draining.

        Raises:
            UnavailableError: The clock, a ledger or the disk prevents it.
        """
        self._require_able()

    def _require_able(self) -> None:
        self._ledgers.require_running()
        if not self._room.free_bytes():
            raise UnavailableError(
                "disk: no room for fragments",
                hint="operator: make room, or lower limits.reserve_bytes",
            )

    def why_refusing(self) -> UnavailableError | None:
        """Why new uploads are refused now, or None while they are taken."""
        try:
            self._orders.require_taking()
            self._require_able()
        except UnavailableError as exc:
            return exc
        return None

    def discovery(self) -> RelayDiscovery:
        """What anybody may know."""
        accepting = self.why_refusing() is None
        return RelayDiscovery(
            name=self._identity.name,
            operator=self._identity.operator,
            region=self._identity.region,
            vkey=self._identity.vkey,
            base_url=self._identity.base_url,
            destinations=tuple(
                ServedDestination(
                    server=one.server,
                    calls=tuple(origin.call for origin in self._book.calls(one.server)),
                )
                for one in self._book.destinations
            ),
            free_bytes=self._room.free_bytes(),
            load=self._gate.load if accepting else FULL_LOAD,
            accepting=accepting,
            abuse_contact=self._identity.abuse_contact,
        )

    async def status(self, *, is_serving: bool) -> dict[str, Json]:
        """What the operator wants to know."""
        tallies: defaultdict[Origin, list[Tally]] = defaultdict(list)
        async for tally in self._uploads.tally():
            tallies[tally.origin].append(tally)
        for destination in self._book.destinations:
            for origin in self._book.calls(destination.server):
                tallies.setdefault(origin, [])
        bound, refusal = self._clock.error_bound_ms(), self.why_refusing()
        orders, rest_ends_at = self._orders.current, self._orders.rest_ends_at()
        return {
            "version": 1,
            "name": self._identity.name,
            "operator": self._identity.operator,
            "base_url": self._identity.base_url,
            "vkey": self._identity.vkey.format(),
            "fingerprint": self._identity.vkey.fingerprint(),
            "state": "serving" if is_serving else "stopped",
            "accepting": refusal is None,
            "refusing_because": None if refusal is None else refusal.message,
            "next": None if refusal is None else refusal.hint,
            "clock_error_ms": bound,
            "draining_since": orders.draining_since,
            "paused_until": rest_ends_at,
            "bytes_per_s": self._orders.bytes_per_s(),
            "free_bytes": self._room.free_bytes(),
            "traffic_bytes": self._accounts.traffic,
            "traffic_limit_bytes": self._accounts.limit,
            "last_hold_until": await self._uploads.last_hold(),
            "load": self._gate.load,
            "destinations": [self._describe(one) for one in self._book.destinations],
            "calls": [_describe(origin, tallies[origin]) for origin in sorted(tallies)],
        }

    def _describe(self, destination: Destination) -> dict[str, Json]:
        server = destination.server
        accounts = [one for one in self._accounts.accounts() if one.server == server]
        return {
            "server": server,
            "url": destination.url,
            "quota_bytes": destination.quota_bytes or self._quota_bytes,
            "used_bytes": self._room.used(server),
            "accepted_bytes": sum(one.accepted_bytes for one in accounts),
            "delivered_bytes": sum(one.delivered_bytes for one in accounts),
        }


def _describe(origin: Origin, tallies: list[Tally]) -> dict[str, Json]:
    def count(*states: TransferState) -> int:
        return sum(tally.count for tally in tallies if tally.state in states)

    held = {TransferState.COMPLETE, TransferState.HELD}
    return {
        "origin": str(origin),
        "receiving_count": count(TransferState.RECEIVING),
        "held_count": count(*held),
        "held_bytes": sum(tally.size for tally in tallies if tally.state in held),
        "released_count": count(TransferState.RELEASED),
        "expired_count": count(TransferState.EXPIRED),
    }
