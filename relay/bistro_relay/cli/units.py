"""The systemd units of a relay: hardened, unprivileged, and a socket that outlives restarts.

Source: systemd.exec(5), systemd.socket(5); docs/guides/relay-operators.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

NAME: Final = "bistro-relay"

_SOCKET: Final = """\
# Holds the port while the relay is started again: connections wait, none is refused.
[Unit]
Description=Port of the Bistro relay

[Socket]
ListenStream={address}
Backlog=1024
NoDelay=true

[Install]
WantedBy=sockets.target
"""

_SERVICE: Final = """\
[Unit]
Description=Bistro relay
Requires={name}.socket
Wants=network-online.target time-sync.target
After=network-online.target time-sync.target {name}.socket
# As often as it takes: a limit would close the port, and a disk that is mended would not help.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={program} serve --dir {directory}
User={user}
Restart=always
RestartSec=1
# Sent every 5 s while the event loop turns.
WatchdogSec=60
# Recovery of a million fragments takes seconds; a slow disk may need minutes.
TimeoutStartSec=600
# Open requests have http.grace_s to end.
TimeoutStopSec=60
LimitNOFILE=65536

# It needs its folder, its port, the network and the clock; nothing else.
ReadWritePaths={directory}
ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
# Not ProtectClock: the clock's error must be read. Without capabilities nobody can set it.
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
UMask=0077
SystemCallArchitectures=native
SystemCallFilter=@system-service adjtimex clock_adjtime
SystemCallErrorNumber=EPERM
MemoryHigh=512M
TasksMax=256
IPAccounting=yes

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a relay lives.

    Attributes:
        directory: Its folder, absolute.
        program: The command ``bistro-relay``, absolute.
        user: Who runs it.
        host: The address to listen on.
        port: The port.
    """

    directory: Path
    program: Path
    user: str
    host: str
    port: int


def units(place: Place) -> dict[str, str]:
    """The units of a relay by file name."""
    address = f"[{place.host}]" if ":" in place.host else place.host
    is_at_home = place.directory.is_relative_to("/home") or place.directory.is_relative_to("/root")
    return {
        f"{NAME}.socket": _SOCKET.format(address=f"{address}:{place.port}"),
        f"{NAME}.service": _SERVICE.format(
            name=NAME,
            program=place.program,
            directory=place.directory,
            user=place.user,
            protect_home="no" if is_at_home else "yes",
        ),
    }
