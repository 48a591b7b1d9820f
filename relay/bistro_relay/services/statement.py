"""The relay's signed word about its service: bytes accepted, delivered and held, for whom.

Source: docs/spec/relay-life.md, statement of service.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from bistro.clock import Clock
from bistro.crypto.signing import SigningKey
from bistro.errors import UnknownObjectError
from bistro.wire.relay_notes import WHOLE_TIME, DestinationService, Service, require_month
from bistro_relay.services.accounts import Accounts
from bistro_relay.services.room import Room

FRESH_MS: Final = 5_000
"""A note is made at most so often: reading it costs no signature."""


class Statements:
    """Makes statements of service.

    Args:
        key: The relay's.
        accounts: What came and left.
        room: What is held.
        clock: Dates notes.
    """

    def __init__(self, key: SigningKey, accounts: Accounts, room: Room, clock: Clock) -> None:
        self._key = key
        self._accounts = accounts
        self._room = room
        self._clock = clock
        self._made: dict[str, tuple[int, bytes]] = {}

    def note(self, period: str = WHOLE_TIME) -> bytes:
        """The signed statement about a month, or about the whole time.

        Raises:
            FormatError: Not a month.
            UnknownObjectError: Nothing came or left in that month.
        """
        now_ms = self._clock.monotonic_ms()
        made_ms, note = self._made.get(period, (None, b""))
        if made_ms is None or now_ms - made_ms >= FRESH_MS:
            note = self.make(period).sign(self._key)
            # Months in which there was something: nobody else can make this grow.
            self._made[period] = now_ms, note
        return note

    def make(self, period: str = WHOLE_TIME) -> Service:
        """As ``note``, before it is signed."""
        require_month(period, WHOLE_TIME)
        month = None if period == WHOLE_TIME else period
        accounts = self._accounts.accounts(month)
        if month is not None and not accounts:
            raise UnknownObjectError(f"nothing came or left in {month}")
        accepted: Counter[str] = Counter()
        delivered: Counter[str] = Counter()
        for one in accounts:
            accepted[one.server] += one.accepted_bytes
            delivered[one.server] += one.delivered_bytes
        return Service(
            relay=self._key.verifier.name,
            at=self._clock.now(),
            period=period,
            destinations=tuple(
                DestinationService(
                    server=server,
                    accepted_bytes=accepted[server],
                    delivered_bytes=delivered[server],
                    held_bytes=self._room.used(server),
                )
                for server in sorted({*accepted, *self._room.servers})
            ),
        )
