"""What a service manager and a daemon tell each other: sockets passed on, ready, alive, stopping.

A socket that the manager holds outlives the daemon: while it is started again connections wait
in the kernel instead of being refused. Where nobody manages the daemon all of this is nothing.

Source: systemd: sd_listen_fds(3), sd_notify(3).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from bistro.daemon import logs
from bistro.daemon.settings import service_variable
from bistro.errors import SettingsError

FIRST_SOCKET: Final = 3
"""The descriptor of the first socket that is passed on."""

ALIVE_S: Final = 5.0
"""How often a daemon says that its event loop turns; the manager's patience must be longer."""

_log = logs.get_logger("activation")


def passed_listener() -> socket.socket | None:
    """The listening TCP socket that the service manager holds for us, if there is one.

    Raises:
        SettingsError: It passed on something else, or several sockets.
    """
    count = _passed_count()
    if not count:
        return None
    if count > 1:
        raise SettingsError(
            f"the service manager passed on {count} sockets, expected one",
            hint="leave one ListenStream in the unit of the socket",
        )
    try:
        listener = socket.socket(fileno=FIRST_SOCKET)
        is_listening = bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as exc:
        raise _no_listener(exc.strerror or "no socket") from exc
    if not is_listening or listener.family not in {socket.AF_INET, socket.AF_INET6}:
        raise _no_listener("another kind of socket")
    listener.setblocking(False)
    os.set_inheritable(FIRST_SOCKET, False)
    return listener


def _no_listener(found: str) -> SettingsError:
    return SettingsError(
        f"the service manager passed on {found}, expected a listening TCP socket",
        hint="see the unit of the socket: ListenStream=8441, Accept=no",
    )


def _passed_count() -> int:
    """How many sockets were passed on to this very process, not to one above it."""
    if service_variable("LISTEN_PID") != str(os.getpid()):
        return 0
    text = service_variable("LISTEN_FDS") or ""
    return int(text) if text.isascii() and text.isdigit() else 0


def notify(*words: str) -> None:
    """Tell the service manager something, such as ``READY=1``; nobody may be listening."""
    address = service_variable("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(address)
            channel.sendall("\n".join(words).encode())
    except OSError as exc:
        # The manager decides what it does about a silent daemon; we go on serving.
        _log.warning("manager_lost", message=str(exc.strerror))


async def report(ready: asyncio.Event, sleep: Callable[[float], Awaitable[None]]) -> NoReturn:
    """The part that tells the manager: ready once ``ready`` is set, then alive, at last stopping.

    Args:
        ready: Set when requests are answered.
        sleep: What waits between two signs of life.
    """
    try:
        await ready.wait()
        notify("READY=1")
        while True:
            notify("WATCHDOG=1")
            await sleep(ALIVE_S)
    finally:
        notify("STOPPING=1")
