"""A filer's client that stays: ``python -m tests.e2e.demo.filer HOME``.

It files through the library, as a program of an agency would, where the command ``bistro submit``
files one at a time. It makes its key and prints ``ready``. Then it reads lines of JSON: a list of
orders is filed, ``null`` has it look where its filings stand. It prints a line for each filing
that has ended, and ``null`` when it has done what a line asked for. Each filing asks for its
ticket as soon as it is sealed, whatever others still upload.
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
    """Do what is asked for, line by line, until there are no more lines."""
    keyring.create(home.key_file)
    _say("ready")
    async with Session() as session:
        while line := await asyncio.to_thread(sys.stdin.readline):
            orders: list[Order] | None = json.loads(line)
            if orders is None:
                await _look(home, session)
            else:
                async with asyncio.TaskGroup() as group:
                    for order in orders:
                        group.create_task(_file(home, session, order))
            _say("null")


async def _look(home: Home, session: Session) -> None:
    """Fetch and verify where every filing stands, as ``bistro status`` does."""
    submitter = Submitter(home, session, clock=SystemClock())
    for folder in home.folders():
        try:
            await submitter.look(folder)
        except BistroError as exc:
            _say(json.dumps({"said": f"{folder.id}: {exc.message}"}))


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
