"""Every endpoint of the public app and of the control socket.

Source: docs/spec/api.md, destination.
"""

from __future__ import annotations

from bistro_server.http import control, logs, notices, statuses, submitting, timestamps

PUBLIC = (
    *notices.ENDPOINTS,
    *submitting.ENDPOINTS,
    *logs.ENDPOINTS,
    *statuses.ENDPOINTS,
    *timestamps.ENDPOINTS,
)
CONTROL = control.ENDPOINTS
