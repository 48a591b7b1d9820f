"""The log of a call as ``collect``, ``open`` and ``call close`` reach it, with one writer always.

While ``serve`` runs it alone writes, and others ask it through its Unix socket. When it is
down, whoever comes takes the ledger's lock and does the same with the same code. The socket is
for processes of one user on one machine and is not part of the protocol.

Source: docs/decisions/0003-own-process-for-collecting-and-opening.md; docs/spec/commands.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol, TypeVar

import aiohttp

from bistro.api import routes
from bistro.api.problems import MAX_PROBLEM_SIZE, decode_problem
from bistro.api.routes import Route
from bistro.clock import Clock
from bistro.errors import LimitExceededError, UnavailableError, UnknownObjectError
from bistro.ids import format_commitment
from bistro.ledger.appended import Appended
from bistro.ledger.tiles import WIDTH, TilePath, decode_bundle
from bistro.storage.durable import SYSTEM_DISK, Disk
from bistro.wire.anchor import StampedEntry
from bistro.wire.checkpoint import verify_checkpoint
from bistro.wire.entry import Entry, decode_entry
from bistro.wire.ticket import Closed, Opening, TermsInForce, Ticket
from bistro_server.services.anchoring import stamped_entry
from bistro_server.services.calls import Call
from bistro_server.services.folder import ServerFolder
from bistro_server.services.ledgers import CallLedgers
from bistro_server.store.anchors import AnchorFiles
from bistro_server.store.schema import open_database
from bistro_server.store.status_files import StatusFiles
from bistro_server.store.submissions import Submissions

CLOSE_CALL: Final = Route("close_call", "POST", "/calls/{call}/closed")
OPEN_CALL: Final = Route("open_call", "POST", "/calls/{call}/opening")
LOG_TICKET: Final = Route("log_ticket", "GET", "/calls/{call}/log/ticket/{commitment}")

LOG_TERMS: Final = Route("log_terms", "GET", "/calls/{call}/log/terms/{terms_hash}")

_BASE: Final = "http://control"
_MAX_ANSWER_SIZE: Final = 1_000_000
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)
_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.1

PromiseT = TypeVar("PromiseT", Closed, Opening, TermsInForce, Ticket)


class CallLog(Protocol):
    """A call's log, through ``serve`` or directly."""

    async def append_closed(self) -> Closed:
        """The ``closed`` entry after the last terms, written now if it is due.

        Raises:
            NotOpenError: The call still takes tickets; the hint says until when.
        """
        ...

    async def append_opening(self) -> Opening:
        """The ``opening`` entry, the log's last, written now if there is none.

        The caller has asked ``protocol.deadline.may_open``; here only what the log itself
        demands is checked again.

        Raises:
            NotOpenError: There is no ``closed`` entry after the last terms.
        """
        ...

    async def find_ticket(self, commitment: bytes) -> Ticket | None:
        """The ticket of a commitment, proven to the newest checkpoint."""
        ...

    async def find_terms(self, terms_hash: bytes) -> TermsInForce | None:
        """The entry of a version of the terms, proven to the newest checkpoint."""
        ...

    async def find_closed(self) -> Closed | None:
        """The ``closed`` entry after the last terms, if there is one."""
        ...

    async def find_opening(self) -> Opening | None:
        """The ``opening`` entry, if there is one."""
        ...

    async def prove(self, index: int) -> str:
        """The proof text of any entry under the newest checkpoint.

        Raises:
            UnknownObjectError: The log has no such entry.
        """
        ...

    async def checkpoint(self) -> bytes:
        """The newest signed checkpoint, a note."""
        ...

    async def find_stamped(self, index: int) -> StampedEntry | None:
        """Where an entry stands under the earliest stamped checkpoint that covers it."""
        ...

    def entries(self, start: int = 0) -> AsyncIterator[tuple[int, Entry]]:
        """Index and value of every entry from ``start`` to the end as it is now."""
        ...


@asynccontextmanager
async def open_log(
    folder: ServerFolder, call: Call, clock: Clock, *, error_limit_ms: int, disk: Disk = SYSTEM_DISK
) -> AsyncIterator[CallLog]:
    """The log of a call for as long as the block runs.

    Args:
        folder: The server's folder.
        call: The call.
        clock: Stamps, if this process has to write itself.
        error_limit_ms: The largest clock error with which to stamp then.
        disk: The system calls to use then.

    Raises:
        UnavailableError: ``serve`` is just starting or stopping, or another process writes.
    """
    async with AsyncExitStack() as stack:
        log: CallLog | None = None
        for _ in range(_ATTEMPTS):
            log = await _try_open(stack, folder, call, clock, error_limit_ms, disk)
            if log is not None:
                break
            await asyncio.sleep(_PAUSE_S)
        else:
            raise UnavailableError(
                f"call {call.id}: its ledger is held by a process that does not answer",
                hint="wait until it has ended, then try again",
            )
        yield log


async def _try_open(
    stack: AsyncExitStack,
    folder: ServerFolder,
    call: Call,
    clock: Clock,
    error_limit_ms: int,
    disk: Disk,
) -> CallLog | None:
    client = ControlClient(folder.control_socket, call)
    try:
        await client.checkpoint()
    except UnavailableError:
        await client.close()
    else:
        stack.push_async_callback(client.close)
        return client
    # Nobody listens: the lock says whether a serve is about to, or has just stopped.
    try:
        ledgers = await CallLedgers.open(call, clock, error_limit_ms=error_limit_ms, disk=disk)
    except UnavailableError:
        return None
    stack.push_async_callback(ledgers.close)
    await stack.enter_async_context(ledgers.running())
    return DirectLog(ledgers, known_size=await _known_size(folder, call, clock))


async def _known_size(folder: ServerFolder, call: Call, clock: Clock) -> int:
    """How many entries of the log the database has read."""
    database = await open_database(folder.database)
    try:
        return await Submissions(database, StatusFiles(folder.status), clock).tailed(call.id)
    finally:
        await database.close()


class DirectLog:
    """A ``CallLog`` of the process that has the ledgers open.

    Args:
        ledgers: Open, with their sequencers running.
        known_size: How many entries of the log there have been: fewer may be read, for whoever
            wants to know what is missing, and nothing is added to them.
    """

    def __init__(self, ledgers: CallLedgers, *, known_size: int = 0) -> None:
        self._ledgers = ledgers
        self._known_size = known_size

    async def append_closed(self) -> Closed:
        """See ``CallLog``."""
        self._ledgers.require_newest(self._known_size)
        return Closed.parse((await self._ledgers.append_closed()).proof)

    async def append_opening(self) -> Opening:
        """See ``CallLog``."""
        self._ledgers.require_newest(self._known_size)
        return Opening.parse((await self._ledgers.append_opening()).proof)

    async def find_ticket(self, commitment: bytes) -> Ticket | None:
        """See ``CallLog``."""
        return _parse(Ticket, await self._ledgers.find_ticket(commitment))

    async def find_terms(self, terms_hash: bytes) -> TermsInForce | None:
        """See ``CallLog``."""
        return _parse(TermsInForce, await self._ledgers.find_terms(terms_hash))

    async def find_closed(self) -> Closed | None:
        """See ``CallLog``."""
        return _parse(Closed, await self._ledgers.find_closed())

    async def find_opening(self) -> Opening | None:
        """See ``CallLog``."""
        return _parse(Opening, await self._ledgers.find_opening())

    async def prove(self, index: int) -> str:
        """See ``CallLog``."""
        return (await self._ledgers.log.prove(index)).proof.decode()

    async def checkpoint(self) -> bytes:
        """See ``CallLog``."""
        return self._ledgers.checkpoint()

    async def find_stamped(self, index: int) -> StampedEntry | None:
        """See ``CallLog``."""
        files = AnchorFiles(self._ledgers.call.folder.anchors)
        try:
            return await stamped_entry(self._ledgers, index, files)
        except UnknownObjectError:
            return None

    async def entries(self, start: int = 0) -> AsyncIterator[tuple[int, Entry]]:
        """See ``CallLog``."""
        size = self._ledgers.log.size
        at = start
        while at < size:
            stop = min(size, at - at % WIDTH + WIDTH)
            found = await asyncio.to_thread(list, self._ledgers.log.entries(at, stop))
            for index, entry in enumerate(found, at):
                yield index, decode_entry(entry)
            at = stop


def _parse(kind: type[PromiseT], found: Appended | None) -> PromiseT | None:
    return None if found is None else kind.parse(found.proof)


class ControlClient:
    """A ``CallLog`` of a running ``serve``, through its Unix socket.

    Args:
        socket: ``control.sock`` of the server's folder.
        call: The call whose log this is.
    """

    def __init__(self, socket: Path, call: Call) -> None:
        self._call = call
        connector = aiohttp.UnixConnector(path=str(socket), limit=8)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)

    async def close(self) -> None:
        """Give the connections back."""
        await self._session.close()

    async def append_closed(self) -> Closed:
        """See ``CallLog``."""
        return Closed.parse(await self._ask(CLOSE_CALL))

    async def append_opening(self) -> Opening:
        """See ``CallLog``."""
        return Opening.parse(await self._ask(OPEN_CALL))

    async def find_ticket(self, commitment: bytes) -> Ticket | None:
        """See ``CallLog``."""
        shown = format_commitment(commitment)
        return await self._find(Ticket, LOG_TICKET, commitment=shown)

    async def find_terms(self, terms_hash: bytes) -> TermsInForce | None:
        """See ``CallLog``."""
        return await self._find(TermsInForce, LOG_TERMS, terms_hash=terms_hash.hex())

    async def find_closed(self) -> Closed | None:
        """See ``CallLog``."""
        return await self._find(Closed, routes.LOG_CLOSED)

    async def find_opening(self) -> Opening | None:
        """See ``CallLog``."""
        return await self._find(Opening, routes.LOG_OPENING)

    async def prove(self, index: int) -> str:
        """See ``CallLog``."""
        return (await self._ask(routes.LOG_PROOF, index=str(index))).decode()

    async def checkpoint(self) -> bytes:
        """See ``CallLog``."""
        return await self._ask(routes.LOG_CHECKPOINT)

    async def find_stamped(self, index: int) -> StampedEntry | None:
        """See ``CallLog``."""
        try:
            return StampedEntry.decode(await self._ask(routes.LOG_STAMPED, index=str(index)))
        except UnknownObjectError:
            return None

    async def entries(self, start: int = 0) -> AsyncIterator[tuple[int, Entry]]:
        """See ``CallLog``."""
        size = verify_checkpoint(await self.checkpoint(), self._call.log_key).size
        for number in range(start // WIDTH, -(-size // WIDTH)):
            width = min(WIDTH, size - number * WIDTH)
            path = TilePath("entries", number, width).format().removeprefix("tile/")
            bundle = await self._ask(routes.LOG_TILE, tile=path)
            for index, entry in enumerate(decode_bundle(bundle), number * WIDTH):
                if index >= start:
                    yield index, decode_entry(entry)

    async def _find(self, kind: type[PromiseT], route: Route, **fields: str) -> PromiseT | None:
        try:
            return kind.parse(await self._ask(route, **fields))
        except UnknownObjectError:
            return None

    async def _ask(self, route: Route, **fields: str) -> bytes:
        url = _BASE + route.path(query=None, call=self._call.id, **fields)
        try:
            async with self._session.request(route.method, url) as response:
                limit = _MAX_ANSWER_SIZE if response.ok else MAX_PROBLEM_SIZE
                body = await _read(response, limit)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise UnavailableError(
                f"bistro-server serve: {type(exc).__name__}", hint="is it running?"
            ) from exc
        if response.status != HTTPStatus.OK:
            raise decode_problem(
                body,
                status=response.status,
                content_type=response.headers.get("Content-Type"),
                peer="bistro-server serve",
            )
        return body


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = b""
    while piece := await response.content.read(limit + 1 - len(body)):
        body += piece
        if len(body) > limit:
            raise LimitExceededError(f"answer: expected at most {limit} bytes, found more")
    return body
