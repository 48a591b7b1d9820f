"""Every endpoint of the public app and of the control socket.

Source: docs/spec/api.md, destination.
"""

from __future__ import annotations

from bistro.clock import Clock
from bistro.daemon.quick import Heads
from bistro_server.http import control, logs, notices, stamped, statuses, submitting, timestamps
from bistro_server.http.desks import Desks

PUBLIC = (
    *notices.ENDPOINTS,
    *submitting.ENDPOINTS,
    *logs.ENDPOINTS,
    *stamped.ENDPOINTS,
    *statuses.ENDPOINTS,
    *timestamps.ENDPOINTS,
)
CONTROL = control.ENDPOINTS
TICKETS = submitting.PLAIN_ENDPOINTS
"""What the plain port answers."""


def quick(desks: Desks, clock: Clock) -> Heads:
    """What of the public app is answered the quick way."""
    endpoints = [
        submitting.quick_tickets(desks, is_plain=False),
        timestamps.quick_stamps(desks),
        statuses.quick_status(desks),
        notices.quick_discovery(desks),
    ]
    return Heads(endpoints, clock)


def quick_plain(desks: Desks, clock: Clock) -> Heads:
    """What of the plain port is."""
    return Heads([submitting.quick_tickets(desks, is_plain=True)], clock)
