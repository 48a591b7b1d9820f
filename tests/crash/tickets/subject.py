"""Sets up servers in several shapes."""

from __future__ import annotations

import functools
import random  # noqa: TID251 - passed in, seeded
from pathlib import Path
from typing import Final

from bistro.clock import SystemClock
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.ledger.ledger import PUBLISH_AFTER
from bistro_server.services.calls import CallRegistry
from bistro_server.services.creating import create_call, init_server, load_terms_key
from bistro_server.services.folder import ServerFolder
from bistro_server.settings import initial_settings
from tests.crash.lives import serving
from tests.crash.programs import ERROR_MS
from tests.crash.templates import Templates
from tests.crash.thresholds import PUBLISH_AFTER as SMALL
from tests.crash.tickets.collected import collected, collected_stage
from tests.crash.tickets.office import register
from tests.crash.tickets.opening import CALL, Opener, Outcome
from tests.crash.tickets.stage import TicketStage
from tests.crash.victims import Warm
from tests.crash.workers import client_context, make_certificate
from tests.support.destinations import NAME, plan

SHAPES: Final = (
    *("one", "closing", "two") * 4,
    *("long", "registered") * 3,
    *("opening", "collected", "workers"),
)
LONG: Final = (PUBLISH_AFTER - 150, 2 * PUBLISH_AFTER - 150)
"""Entries of a long log: a little more, and tiles, index and snapshot are written."""
LONG_FOR_SMALL: Final = (3 * SMALL - 60, 8 * SMALL - 60)
"""The same where ledgers publish often; there runs of the index are merged as well."""
_STAYING: Final = frozenset({"one", "workers"})
_LIMITS: Final = (None, 20, 300)
"""Tickets of one registered filer."""
_STAGE_MS: Final = (0, 400)
"""So soon after the last ticket a call may be opened to which nobody stages anything."""
_FAR_SHARE: Final = 0.7
_REAL_SHARE: Final = 0.3
"""Of the forked servers, so many have ledgers of real sizes."""
_SMALL_SETUP: Final = "tests.crash.thresholds:small_ledgers"
FAR_MS: Final = 3_600_000
_GRACE_MS: Final = 1_000


class TicketSubject:
    """``bistro-server serve``, in several shapes.

    Args:
        templates: Where servers with a long log are kept for further runs.
        warm: Fills them.
        sabotage: A name of ``sabotage.SABOTAGES``, or nothing.
    """

    name = "tickets"
    modules: tuple[str, ...] = ("bistro_server.cli", "bistro_server.cli.serve", "bistro_server.app")

    def __init__(self, templates: Path, warm: Warm, *, sabotage: str = "") -> None:
        self._templates = Templates[TicketStage](templates)
        self._collected = Templates[Outcome](templates)
        self._warm = warm
        self._sabotage = sabotage

    async def prepare(self, folder: Path, chance: random.Random, *, is_warm: bool) -> TicketStage:
        """A server with one or two calls: empty, about to close, for registered filers, or long."""
        shape = chance.choice(SHAPES)
        salt = chance.randbytes(8)
        setup = _SMALL_SETUP if is_warm and chance.random() >= _REAL_SHARE else ""
        if shape == "collected":
            outcome = await self._collected.copy("collected", folder, collected)
            stage = collected_stage(folder, outcome, salt)
        elif shape == "long":
            count = chance.choice(LONG_FOR_SMALL if setup else LONG)
            make = functools.partial(self._fill, count=count, setup=setup)
            kept = await self._templates.copy(f"long-{count}", folder, make)
            stage = TicketStage.of(kept.calls, salt, kept.memory)
        else:
            stage = await self._new(folder, chance, shape, salt)
        stage.sabotage, stage.setup = self._sabotage, setup
        return stage

    async def _new(
        self, folder: Path, chance: random.Random, shape: str, salt: bytes
    ) -> TicketStage:
        """One that nobody has asked yet."""
        closes_ms = {"autumn": FAR_MS} if shape == "two" else {}
        # With the shortest grace there is, that is a moment after it was made.
        closes_ms[CALL] = FAR_MS if shape in _STAYING else chance.randint(-900, 300)
        changes: dict[str, object] = {}
        if shape == "registered":
            limit = chance.choice(_LIMITS)
            changes = {"filers": "registered", "tickets_per_filer": limit}
            if chance.random() < _FAR_SHARE:
                closes_ms[CALL] = FAR_MS
        stage_after_ms = chance.randint(*_STAGE_MS) if shape == "opening" else None
        stage = await new_stage(folder, closes_ms, salt, stage_after_ms, **changes)
        if shape == "registered":
            await register(ServerFolder(folder))
        elif shape == "workers":
            make_certificate(folder)
            stage.crowd.tls = client_context()
        elif shape == "opening":
            stage.crowd.opener = Opener(stage.calls[CALL])
        return stage

    async def close(self) -> None:
        """There is nothing to end: templates go with the folder of all runs."""

    async def _fill(self, folder: Path, *, count: int, setup: str) -> TicketStage:
        """A server with so many entries in its log."""
        stage = await new_stage(folder, {"spring": FAR_MS, "autumn": FAR_MS}, b"%d" % count)
        stage.setup = setup
        stage.begin_life(folder)
        async with serving(stage.launch(folder, folder.with_suffix(".log")), self._warm) as port:
            await stage.fill(port, count)
        return stage


async def new_stage(
    folder: Path,
    closes_ms: dict[str, int],
    salt: bytes,
    stage_after_ms: int | None = None,
    **plans: object,
) -> TicketStage:
    """A server whose calls close after so many milliseconds; ``plans`` change all of them.

    Args:
        folder: The server's.
        closes_ms: By call.
        salt: Of the clients' commitments.
        stage_after_ms: How long after the last ticket fragments are taken; ``None``: hours.
        plans: Other fields.
    """
    clock, found = SystemClock(ERROR_MS), ServerFolder(folder)
    url = "http://127.0.0.1:0"
    settings = initial_settings(name=NAME, host="127.0.0.1", port=0, base_url=url)
    init_server(found, name=NAME, settings=settings, now=clock.now())
    for call, after_ms in closes_ms.items():
        now = clock.now()
        changes = {
            **plans,
            "origin": Origin(NAME, call),
            "opens": UnixMillis(now - FAR_MS),
            "closes": UnixMillis(now + after_ms),
            "grace_ms": _GRACE_MS,
        }
        if stage_after_ms is not None:
            until = UnixMillis(now + after_ms + _GRACE_MS + stage_after_ms)
            changes |= dict.fromkeys(("stage_by", "repair_by"), until)
        await create_call(
            found.call(call),
            plan(clock.now(), **changes),
            load_terms_key(found, name=NAME),
            clock,
            recipient_kind="x25519",
            error_limit_ms=2 * ERROR_MS,
        )
    registry = CallRegistry(found)
    return TicketStage.of({call: registry.load(call).terms for call in closes_ms}, salt)
