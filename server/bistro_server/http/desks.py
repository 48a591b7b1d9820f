"""What handlers call, and the few things they have in common.

Source: docs/spec/api.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from bistro.api import media
from bistro.daemon.caching import NEVER
from bistro.daemon.peers import FORWARDED, Peers, Who
from bistro.errors import FormatError, UnknownObjectError
from bistro.ids import parse_commitment
from bistro_server.services.anchoring import Anchoring
from bistro_server.services.ledgers import CallLedgers
from bistro_server.services.publishing import NoticeBoard
from bistro_server.services.serving import CallsInService
from bistro_server.services.staging import ReceiptDesk
from bistro_server.services.statuses import StatusDesk
from bistro_server.services.tickets import TicketDesk
from bistro_server.services.timestamps import TimestampDesk


@dataclass(frozen=True, slots=True)
class Desks:
    """The services behind the handlers, and who knows what each address may ask for."""

    peers: Peers
    calls: CallsInService
    notices: NoticeBoard
    tickets: TicketDesk
    receipts: ReceiptDesk
    statuses: StatusDesk
    timestamps: TimestampDesk
    anchoring: Anchoring


_MAX_INDEX_DIGITS: Final = 16

DESKS: Final = web.AppKey("desks", Desks)


def call_of(request: web.Request) -> CallLedgers:
    """The call that a request's path names.

    Raises:
        UnknownObjectError: There is none.
        UnavailableError: It cannot be used now.
    """
    return request.app[DESKS].calls.get(request.match_info["call"])


def asker_of(request: web.Request) -> Who:
    """Whose request it is, for fairness; the peer's where nobody is limited."""
    peer = request.remote or ""
    forwarded = ",".join(request.headers.getall(FORWARDED, ()))
    who = request.app[DESKS].peers.who(peer, forwarded)
    return who if who.name else Who(peer, None)


def hash_of(request: web.Request, field: str) -> bytes:
    """The 32 bytes that a field of the path spells.

    Raises:
        UnknownObjectError: It spells none: what has no name is not here.
    """
    try:
        return parse_commitment(request.match_info[field])
    except FormatError as exc:
        raise UnknownObjectError(
            f"expected 64 lower-case hexadecimal digits as {field} in the address"
        ) from exc


def index_of(request: web.Request, field: str = "index") -> int:
    """The index of an entry, or the size of a log, that a request's path names.

    Raises:
        UnknownObjectError: It names none.
    """
    text = request.match_info[field]
    is_decimal = text.isascii() and text.isdigit() and len(text) <= _MAX_INDEX_DIGITS
    if not is_decimal or str(int(text)) != text:
        raise UnknownObjectError(f"expected a decimal {field} in the address")
    return int(text)


def private_response(body: bytes, *, content_type: str = media.MSGPACK) -> web.Response:
    """An answer for one reader, kept by nobody in between."""
    return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": NEVER})
