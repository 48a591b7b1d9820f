"""The ``http`` part of a relay: what stages small fragments stands before the ordinary server.

Source: docs/architecture.md; docs/decisions/0020-small-fragments-share-segments.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from bistro.api import routes
from bistro.daemon.connection import Connection
from bistro.daemon.front import Front
from bistro.daemon.listening import HttpPart
from bistro.daemon.polling import PolledListener
from bistro.daemon.preface import Introduction
from bistro.daemon.web import ALARM, counter
from bistro_relay.http.upload_connection import UploadConnection
from bistro_relay.http.upload_front import UploadFront


@dataclass(frozen=True)
class RelayHttpPart(HttpPart):
    """Serves uploads and everything else on one listening socket until it is cancelled.

    Attributes:
        uploads: Stages small fragments; without it the ordinary server does.
    """

    uploads: UploadFront | None = None

    async def run(self) -> None:
        """Serve until cancelled, then finish open requests.

        Raises:
            StorageError: A handler met one; nothing may be promised any more.
        """
        if self.uploads is None:
            await super().run()
            return
        self.uploads.attend(counter(self.app, routes.UPLOAD_CREATION), self.app[ALARM].sound)
        self.uploads.start()
        try:
            await super().run()
        finally:
            # The listener is closed, and who keeps fragments runs still.
            await self.uploads.drain(self.grace_s)

    async def _listen(self, front: Front) -> asyncio.Server | PolledListener:
        uploads = self.uploads
        if uploads is None:
            return await super()._listen(front)
        loop = asyncio.get_running_loop()

        def connection() -> UploadConnection:
            return UploadConnection(uploads, lambda: Connection(front), front.limits.addresses)

        if self.relayed is not None:
            # Workers end TLS, and say whose connection each is that they pass on.
            # It takes bytes that came with that line as any protocol does.
            make = cast("Callable[[], asyncio.Protocol]", connection)
            return await loop.create_unix_server(
                lambda: Introduction(make), sock=self.relayed, backlog=self.backlog
            )
        return await loop.create_server(
            connection, sock=self.listener, ssl=self.tls, backlog=self.backlog
        )
