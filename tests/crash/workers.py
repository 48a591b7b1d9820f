"""TLS and the workers that end it: their files, how clients connect, how workers are killed.

Source: docs/spec/api.md, workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random  # noqa: TID251 - passed in, seeded
import signal
import ssl
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trustme

from tests.crash.lives import UP_S

WORKERS: Final = 2
SERVING_S: Final = (0.8, 2.5)
"""A worker needs a second until it is there."""
_MODULE: Final = b"bistro.daemon.worker"
_CHAIN: Final = "tls-chain.pem"
_KEY: Final = "tls-key.pem"
_PAUSES_S: Final = (0.1, 0.8)


def make_certificate(folder: Path) -> None:
    """Chain and key in a service's folder."""
    certificate = trustme.CA().issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / _CHAIN)
    certificate.private_key_pem.write_to_path(folder / _KEY)


def environment(folder: Path, prefix: str) -> Mapping[str, str]:
    """The settings that name them, of a program with this prefix."""
    return {
        f"{prefix}_HTTP__CERTIFICATE_PATH": str(folder / _CHAIN),
        f"{prefix}_HTTP__KEY_PATH": str(folder / _KEY),
    }


def client_context() -> ssl.SSLContext:
    """Of clients who look at promises, not at who brings them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def wait_for_workers(log: Path) -> None:
    """Return when all workers of a life were started; until then connections wait."""
    async with asyncio.timeout(UP_S):
        while len(worker_pids(log)) < WORKERS:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_PAUSES_S[0])


def worker_pids(log: Path) -> list[int]:
    """The workers that a service says it has started, as far as they live."""
    found = []
    for line in log.read_bytes().splitlines():
        if b'"worker_started"' in line:
            pid = int(json.loads(line)["pid"])
            with contextlib.suppress(OSError):
                # A number can be another process's by now.
                if _MODULE in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
    return found


async def kill_workers(log: Path, chance: random.Random, counts: Counter[str]) -> None:
    """Kill one of them, or all, again and again until cancelled."""
    while True:
        await asyncio.sleep(chance.uniform(*_PAUSES_S))
        pids = worker_pids(log)
        for pid in pids if chance.random() < 0.3 else pids[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                counts["workers killed"] += 1
