"""Tells relays what they may delete, until they have confirmed it.

Every relay that ever announced a fragment of a concluded submission is told, also those whose
bytes were not needed, were lost or were wrong: what proves that is kept here.

Source: docs/spec/collection.md, releases.
"""

from __future__ import annotations

from typing import Final

from bistro.daemon import logs
from bistro.errors import UnavailableError
from bistro.wire.batches import Release, Released
from bistro_server.services.calls import Call
from bistro_server.services.collecting_relays import RelayDesk
from bistro_server.store.collection_done import DoneStore

RELEASES_AT_ONCE: Final = 1_000
_NOT_HELD: Final = "unknown-object"

_log = logs.get_logger("collecting")


class Releaser:
    """Releases fragments of one call.

    Args:
        call: The call.
        store: Knows what may be released, and records what was.
    """

    def __init__(self, call: Call, store: DoneStore) -> None:
        self._call = call
        self._store = store

    async def release(self, desk: RelayDesk) -> tuple[int, UnavailableError | None]:
        """Tell a relay everything it may delete.

        Returns:
            How many releases it confirmed, and why it stopped answering, if it did.
        """
        count, after = 0, -1
        while found := await self._store.releasable(desk.name, after=after, limit=RELEASES_AT_ONCE):
            after = found[-1].submission
            releases = [
                Release(
                    self._call.origin,
                    one.commitment,
                    one.descriptor.index,
                    one.descriptor.fragment_hash,
                )
                for one in found
            ]
            try:
                # A crash after this: told again, and answered the same.
                answers = await desk.release(releases)
            except UnavailableError as exc:
                return count, exc
            done = []
            for one, answer in zip(found, answers, strict=True):
                # What it does not hold needs no release.
                if isinstance(answer, Released) or answer.code == _NOT_HELD:
                    done.append(one)
                else:
                    _log.warning(
                        "release_refused",
                        relay=desk.name,
                        commitment=one.commitment.hex(),
                        fragment_index=one.descriptor.index,
                        error_code=answer.code,
                        message=answer.message,
                    )
            await self._store.mark_released(desk.name, done)
            count += len(done)
        if count:
            _log.info("fragments_released", relay=desk.name, released_count=count)
        return count, None
