"""A filer's client that stays: ``python -m tests.e2e.demo.filer HOME``.

It files through the library, as a program of an agency would, where the command ``bistro submit``
files one at a time. It makes its key, prints ``ready``, reads one JSON line with its orders, and
prints one JSON line for each filing that has ended. Each filing asks for its ticket as soon as
it is sealed, whatever others still upload.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

from bistro.clock import SystemClock
from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, UnavailableError
from bistro.net.session import Session
from bistro_client import keyring
from bistro_client.home import Home
from bistro_client.submitting import Submitter, Wish

_TRIES: Final = 4
_MS_PER_S: Final = 1_000

Order = dict[str, Any]


async def main(home: Home) -> None:
    """Take orders, carry them out, tell how each ended."""
    keyring.create(home.key_file)
    _say("ready")
    orders: list[Order] = json.loads(await asyncio.to_thread(sys.stdin.readline))
    async with Session() as session, asyncio.TaskGroup() as group:
        for order in orders:
            group.create_task(_file(home, session, order))


async def _file(home: Home, session: Session, order: Order) -> None:
    clock = SystemClock()
    await asyncio.sleep(max(0, order["at"] - clock.now()) / _MS_PER_S)
    began_at = clock.now()
    # One submitter for each: it remembers which submission it works on.
    submitter = Submitter(home, session, clock=clock)
    exits = [await _attempt(submitter, order)]
    while exits[-1][0] == UnavailableError.exit_code and len(exits) < _TRIES:
        exits.append(await _attempt(submitter, order))
    said = {
        "number": order["number"],
        "began_at": began_at,
        "exits": [code for code, _ in exits],
        "said": exits[-1][1],
    }
    _say(json.dumps(said))


async def _attempt(submitter: Submitter, order: Order) -> tuple[int, str]:
    """Submit, or go on with what was begun; the exit code that ``bistro`` would have."""
    try:
        folder = submitter.current
        if folder is not None and folder.journal.exists():
            await submitter.resume(folder)
        else:
            await submitter.submit(
                Wish(
                    paths=[Path(path) for path in order["paths"]],
                    url=order["url"],
                    call=order["call"],
                    slot=order["slot"],
                    trust=VerifierKey.parse(order["trust"]),
                )
            )
    except BistroError as exc:
        return exc.exit_code, f"error: {exc.message}\nnext: {exc.hint}"
    return 0, ""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Home(Path(sys.argv[1]).absolute())))
