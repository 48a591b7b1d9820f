"""Asks the relay of a folder, whether it serves or not.

A running relay answers on its control socket; of one that does not run the same services are
opened for a moment.

Source: docs/spec/commands.md, bistro-relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import aiohttp

from bistro.api.problems import decode_problem
from bistro.clock import SystemClock
from bistro.errors import UnavailableError
from bistro_relay.app.composition import Services, Surroundings
from bistro_relay.app.serving import control_socket, open_services
from bistro_relay.settings import Settings

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.1


async def ask(
    settings: Settings, path: str, otherwise: Callable[[Services], Awaitable[bytes]]
) -> bytes:
    """What the relay answers.

    Args:
        settings: Of the relay.
        path: Of the route on its control socket.
        otherwise: Says the same of services that do not serve.

    Raises:
        UnavailableError: Its process is just starting or stopping, or hangs.
        BistroError: What it answers instead.
    """
    for attempt in range(_ATTEMPTS):
        if (found := await ask_running(settings, path)) is not None:
            return found
        clock = SystemClock(settings.clock.assumed_error_ms)
        try:
            async with open_services(settings, Surroundings(clock)) as services:
                await services.room.load(services.uploads)
                return await otherwise(services)
        except UnavailableError:
            # Somebody holds the folder but does not answer yet, or not any more.
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(_PAUSE_S)
    raise AssertionError


async def ask_running(settings: Settings, path: str) -> bytes | None:
    """What the running relay says, or None if none answers.

    Raises:
        BistroError: It refuses, other than by not being there.
    """
    connector = aiohttp.UnixConnector(path=str(control_socket(settings)))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.get(f"http://control{path}") as response,
        ):
            body, status = await response.read(), response.status
            content_type = response.headers.get("Content-Type")
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
    if status == HTTPStatus.OK:
        return body
    error = decode_problem(body, status=status, content_type=content_type, peer="this relay")
    if isinstance(error, UnavailableError):
        return None
    raise error
