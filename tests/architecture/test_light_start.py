"""What a command loads before it does anything: in a filer's last second each import counts."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

import pytest

LATE: Final = {
    "submit": (
        *("bistro_client.sealing", "bistro_client.ticketing", "bistro_client.staging"),
        *("bistro_client.watching", "bistro.protocol.verification", "cryptography.x509"),
        *("keyring", "aiohttp_socks", "rich"),
    ),
    "verify": ("aiohttp", "keyring", "rich"),
    "status": ("bistro_client.sealing", "bistro_client.staging", "keyring", "aiohttp_socks"),
}


@pytest.mark.parametrize("command", LATE)
def test_a_command_loads_only_what_it_begins_with(command: str) -> None:
    """Each step's code is loaded when the step begins."""
    text = f"import json, sys, bistro_client.cli.{command}; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    loaded = json.loads(ran.stdout)
    assert f"bistro_client.cli.{command}" in loaded
    assert not set(LATE[command]) & set(loaded)
