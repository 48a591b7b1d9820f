"""The part that recovers at the start, and then keeps what was promised, and no longer.

Source: docs/spec/staging.md, custody.
"""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

from bistro.clock import Clock
from bistro.daemon import logs
from bistro.errors import UnavailableError
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.protocol.transfer import TransferState
from bistro_relay.services.accounts import Accounts
from bistro_relay.services.custody import Custody
from bistro_relay.services.ending import Ending
from bistro_relay.services.intake import Intake
from bistro_relay.services.recovery import Recovery
from bistro_relay.services.room import full_answered
from bistro_relay.services.terms_book import TermsBook
from bistro_relay.store.terms import NonceStore
from bistro_relay.store.uploads import UploadStore

TICK_S: Final = 1.0

_REMEMBER_MS: Final = 86_400_000
"""How long the row of an upload without a receipt outlives it: a late HEAD learns its end."""

_log = logs.get_logger("keeper")


class Keeper:
    """Gives late receipts, prolongs holds, expires what is over.

    Attributes:
        recovered: Set once a start has put right what the last end left; nothing is served
            before.
    """

    def __init__(  # noqa: PLR0913 - it stands between all of these
        self,
        *,
        recovery: Recovery,
        book: TermsBook,
        uploads: UploadStore,
        nonces: NonceStore,
        intake: Intake,
        custody: Custody,
        accounts: Accounts,
        ending: Ending,
        clock: Clock,
    ) -> None:
        self.recovered = asyncio.Event()
        self._recovery = recovery
        self._book = book
        self._uploads = uploads
        self._nonces = nonces
        self._intake = intake
        self._custody = custody
        self._accounts = accounts
        self._ending = ending
        self._clock = clock
        self._prolonged: dict[Origin, bytes] = {}

    async def run(self) -> NoReturn:
        """Recover, then tick until cancelled.

        Raises:
            StorageError: Disk, database or a ledger failed.
        """
        if not self.recovered.is_set():
            await self._ending.finish()
            await self._recovery.run()
        while True:
            try:
                with full_answered():
                    await self.tick()
            except UnavailableError as exc:
                # The clock's error, or a full disk: the same again, a tick later.
                _log.warning("keeping_postponed", error_code=exc.code, message=exc.message)
            self.recovered.set()
            await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """Do all that is due now.

        Raises:
            UnavailableError: Nothing can be promised now.
            StorageError: Disk, database or a ledger failed.
        """
        await self._accounts.save()
        await self._custody.hold_complete()
        await self._prolong()
        await self._expire()
        await self._ending.tick()
        now = self._clock.now()
        await self._nonces.forget_expired(now)
        await self._uploads.forget_ended(UnixMillis(now - _REMEMBER_MS))

    async def _prolong(self) -> None:
        for destination in self._book.destinations:
            for origin in self._book.calls(destination.server):
                terms_hash = self._book.find_terms(origin).hash
                if self._prolonged.get(origin) != terms_hash:
                    await self._custody.prolong(origin)
                    self._prolonged[origin] = terms_hash

    async def _expire(self) -> None:
        for upload in await self._uploads.list_expired(self._clock.now()):
            if upload.transfer.state is TransferState.RECEIVING:
                await self._intake.expire(upload)
            else:
                await self._custody.expire(upload)
