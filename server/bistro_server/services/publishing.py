"""What everybody may read about calls: discovery, terms with their proofs, minutes.

Source: docs/spec/terms.md, discovery; docs/spec/api.md, destination.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

from bistro.clock import Clock
from bistro.crypto.signing import VerifierKey
from bistro.errors import StorageError, UnknownObjectError
from bistro.storage.durable import read_file
from bistro.wire.discovery import CallSummary, ServerDiscovery
from bistro.wire.served_terms import ServedTerms
from bistro.wire.terms import Terms
from bistro.wire.ticket import TermsInForce
from bistro_server.services.calls import Call
from bistro_server.services.folder import MAX_SMALL_FILE_SIZE
from bistro_server.services.ledgers import CallLedgers
from bistro_server.services.serving import CallsInService


class NoticeBoard:
    """Hands out what is public about the server and its calls.

    Args:
        terms_key: The server's vkey, named as the server.
        base_url: Where the API begins, as others reach it.
        calls: The calls.
        clock: Says whether a call has opened.
        tickets_url: Where ticket requests are also taken over plain HTTP, if anywhere.
    """

    def __init__(
        self,
        terms_key: VerifierKey,
        base_url: str,
        calls: CallsInService,
        clock: Clock,
        *,
        tickets_url: str | None = None,
    ) -> None:
        self._terms_key = terms_key
        self._base_url = base_url
        self._calls = calls
        self._clock = clock
        self._tickets_url = tickets_url
        self._served: dict[bytes, bytes] = {}
        self._shown: list[tuple[Terms, str]] | None = None
        self._discovery = b""

    def discovery(self) -> bytes:
        """The discovery document as it is now; spelled anew only where a call has changed."""
        shown = [(ledgers.terms, self.state(ledgers)) for ledgers in self._calls]
        if shown != self._shown:  # mostly the same objects: nothing is compared then
            self._discovery = ServerDiscovery(
                name=self._terms_key.name,
                terms_key=self._terms_key,
                base_url=self._base_url,
                calls=tuple(map(self._summary, self._calls)),
                tickets_url=self._tickets_url,
                rotations=tuple(
                    note for ledgers in self._calls for note in _rotations(ledgers.call)
                ),
            ).encode()
            self._shown = shown
        return self._discovery

    def _summary(self, ledgers: CallLedgers) -> CallSummary:
        terms = ledgers.terms
        return CallSummary(
            id=ledgers.call.id,
            title=terms.title,
            state=self.state(ledgers),
            opens=terms.opens,
            closes=terms.closes,
            terms=terms.hash,
        )

    def state(self, ledgers: CallLedgers) -> str:
        """Where a call stands: announced, open, closed or opened."""
        if ledgers.is_opened:
            return "opened"
        if ledgers.is_closed:
            return "closed"
        return "open" if self._clock.now() >= ledgers.terms.opens else "announced"

    async def terms(self, ledgers: CallLedgers, terms_hash: bytes) -> bytes:
        """A version of the terms with the proof of its entry, the same bytes every time.

        Raises:
            UnknownObjectError: The call has no such version.
        """
        signed = ledgers.call.version(terms_hash)
        if signed is None:
            raise UnknownObjectError(f"call {ledgers.call.id}: no such version of the terms")
        if terms_hash not in self._served:
            found = await ledgers.find_terms(terms_hash)
            if found is None:
                raise StorageError(f"call {ledgers.call.id}: its log has lost its terms")
            self._served[terms_hash] = ServedTerms(signed, TermsInForce.parse(found.proof)).encode()
        return self._served[terms_hash]

    async def minutes(self, call: Call) -> bytes:
        """The minutes note of a call.

        Raises:
            UnknownObjectError: There is none yet.
        """
        note = await asyncio.to_thread(read_file, call.folder.minutes, max_size=MAX_SMALL_FILE_SIZE)
        if note is None:
            raise UnknownObjectError(f"call {call.id}: there are no minutes yet")
        return note


def _rotations(call: Call) -> list[str]:
    return [
        new.encode().decode()
        for old, new in pairwise(call.versions)
        if old.terms.keys.terms != new.terms.keys.terms
    ]
