"""The open-loop client: asks when a filing is due, whatever became of those before it.

A process of its own. Every filer has an address and connections of its own and behaves as
``bistro submit`` does: who is put off, or gets no answer, asks again for the same commitment.
How late the client itself was is part of what it reports.

Run as ``python -m tests.workload.client D RECORDS --port …``; see ``main``.

Source: docs/reference/workload.md, client.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import uvloop

from bistro.api import media, routes
from bistro.api.problems import decode_problem
from bistro.clock import SystemClock
from bistro.errors import BistroError, FormatError, UnavailableError
from bistro.protocol.backoff import Backoff
from bistro.wire.ticketing import (
    Postponed,
    Refused,
    TicketAnswer,
    TicketAnswers,
    TicketRequest,
    TicketRequests,
)
from tests.bench.loads.priority import preempt
from tests.bench.loads.requests import post
from tests.workload.chance import seeded
from tests.workload.exchange import HOST, Response, exchange
from tests.workload.filings import Filing, filings_of
from tests.workload.records import Record, Run
from tests.workload.windows import REPLAYED, Replayed, window_of

BACKOFF: Final = Backoff(first_ms=500, cap_ms=15_000)
"""As the submitter tool's."""
DRAIN_S: Final = 20.0
"""How long after the window those who have no answer go on asking."""
_TIMEOUT_S: Final = 10.0
_MS_PER_S: Final = 1_000
_MAX_PROBLEM: Final = 200


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask.

    Attributes:
        call: The call's id.
    """

    port: int
    call: str
    terms_hash: bytes

    def ticket_request(self, commitment: bytes) -> bytes:
        """The request for a ticket."""
        body = TicketRequests((TicketRequest(commitment, self.terms_hash),)).encode()
        headers = {"Content-Type": media.MSGPACK, "Connection": "close"}
        return post(routes.TICKETS.path(call=self.call), headers, body)

    def status_request(self, commitment: bytes) -> bytes:
        """The request for a filing's status."""
        path = routes.STATUS.path(call=self.call, commitment=commitment.hex())
        return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()


class Crowd:
    """All filers.

    Args:
        target: Whom they ask.
        begin: When the window begins, by ``time.perf_counter``.
        end_s: When the last of them gives up, seconds of the window.
        reads_until_s: When reading ends; 0: nobody reads.
        seed: For the pauses between attempts.
        backoff: How long those are.
    """

    def __init__(
        self,
        target: Target,
        *,
        begin: float,
        end_s: float,
        reads_until_s: float,
        seed: int,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._target = target
        self._begin = begin
        self._end_s = end_s
        self._reads_until_s = reads_until_s
        self._clock = SystemClock()
        self._backoff = backoff
        self._chance = seeded(seed, "pauses")
        self._records: list[Record] = []
        self._postponed: Counter[str] = Counter()
        self._reads: Counter[int] = Counter()
        self._reads_s: list[float] = []

    async def run(self, filings: Sequence[tuple[Filing, bytes]]) -> Run:
        """Send each request when its filing is due, and see all of them through.

        Args:
            filings: In order, each with its request.
        """
        spent, began = time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for filing, request in filings:
                if (ahead_s := filing.due_s - self._now_s()) > 0:
                    await asyncio.sleep(ahead_s)
                group.create_task(self._file(group, filing, request))
        busy = (time.process_time() - spent) / (time.perf_counter() - began)
        return Run(
            tuple(self._records),
            busy=busy,
            reads=dict(self._reads),
            reads_s=tuple(sorted(self._reads_s)),
            postponed=dict(self._postponed),
        )

    def _now_s(self) -> float:
        return time.perf_counter() - self._begin

    async def _file(self, group: asyncio.TaskGroup, filing: Filing, request: bytes) -> None:
        record = Record(filing.number, filing.due_s)
        record.late_s = self._now_s() - filing.due_s
        record.asked_at = self._clock.now()
        self._records.append(record)
        while (pause_s := await self._attempt(record, filing, request)) is not None:
            if self._now_s() + pause_s > self._end_s:
                return
            await asyncio.sleep(pause_s)
        if record.answer == "ticket" and self._reads_until_s:
            ticket_s = self._now_s()
            for after_s in filing.reads_s:
                if ticket_s + after_s < self._reads_until_s:
                    group.create_task(self._read(filing, ticket_s + after_s))

    async def _attempt(self, record: Record, filing: Filing, request: bytes) -> float | None:
        """Ask once; the pause before the next attempt in seconds, None if there is none."""
        record.attempts += 1
        retry_s: float | None = None
        try:
            answer = _answer_in(await self._ask(filing, request))
        except (OSError, BistroError) as exc:  # a TimeoutError is an OSError
            record.problem = f"{type(exc).__name__}: {exc}"[:_MAX_PROBLEM]
            if isinstance(exc, BistroError):
                self._postponed[exc.code] += 1
                retry_s = exc.retry_after_s if isinstance(exc, UnavailableError) else None
        else:
            if not isinstance(answer, Postponed):
                record.took_s = self._now_s() - filing.due_s
                is_refused = isinstance(answer, Refused)
                record.answer = "refusal" if is_refused else "ticket"
                record.promise = answer.refusal if isinstance(answer, Refused) else answer.ticket
                return None
            self._postponed[answer.code] += 1
            record.problem = answer.code
            if not answer.retry_ms:
                return None
            retry_s = answer.retry_ms / _MS_PER_S
        failures = record.attempts - 1
        return self._backoff.delay_ms(failures, self._chance, retry_after_s=retry_s) / _MS_PER_S

    async def _ask(self, filing: Filing, request: bytes) -> Response:
        target = self._target
        return await exchange(
            request, port=target.port, address=filing.address, timeout_s=_TIMEOUT_S
        )

    async def _read(self, filing: Filing, due_s: float) -> None:
        """Read a status when it is due, and count how that went."""
        await asyncio.sleep(max(0.0, due_s - self._now_s()))
        try:
            found = await self._ask(filing, self._target.status_request(filing.commitment))
        except OSError:
            self._reads[0] += 1
            return
        self._reads[found.status] += 1
        self._reads_s.append(self._now_s() - due_s)


def _answer_in(response: Response) -> TicketAnswer:
    """The answer to a ticket request.

    Raises:
        BistroError: The response holds none.
    """
    if response.status != 200:
        raise decode_problem(
            response.body, status=response.status, content_type=response.content_type
        )
    found = TicketAnswers.decode(response.body)
    if found.is_bulk:
        raise FormatError("ticket answer: expected one item, found an array")
    return found.items[0]


@click.command()
@click.argument("profile", type=click.Choice(REPLAYED))
@click.argument("records", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--port", type=int, required=True)
@click.option("--call", required=True)
@click.option("--terms-hash", required=True, help="In hexadecimal.")
@click.option("--begin-at", type=int, required=True, help="UTC milliseconds.")
@click.option("--seconds", type=int, required=True)
@click.option("--scale", type=float, required=True)
@click.option("--seed", type=int, required=True)
@click.option("--reads", is_flag=True)
def main(
    profile: Replayed, records: Path, *, port: int, call: str, terms_hash: str, **options: float
) -> None:
    """Replay PROFILE and write what was seen to RECORDS."""
    seed, seconds = int(options["seed"]), int(options["seconds"])
    window = window_of(profile, seconds=seconds, scale=options["scale"])
    target = Target(port, call, bytes.fromhex(terms_hash))
    filings = [(one, target.ticket_request(one.commitment)) for one in filings_of(window, seed)]
    preempt()
    # A collection of a large heap would be a pause, and the pause would be ours.
    gc.collect()
    gc.freeze()
    gc.disable()
    ahead_s = (options["begin_at"] - SystemClock().now()) / _MS_PER_S
    crowd = Crowd(
        target,
        begin=time.perf_counter() + ahead_s,
        end_s=window.length_s + DRAIN_S,
        reads_until_s=window.length_s if options["reads"] else 0.0,
        seed=seed,
    )
    uvloop.run(crowd.run(filings)).write(records)


if __name__ == "__main__":
    main()
