"""What a filing's whole life asks of the destination, request by request."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from pathlib import Path

from bistro.api import routes
from bistro.protocol.submission import SubmissionState
from bistro_client.home import Folder
from bistro_client.journal import Journal
from tests.integration.test_client_path import FILES, Filer, filing
from tests.integration.test_collecting import repairs
from tests.support.world import World

_STATUSES = re.compile(
    r'^bistro_http_requests_total\{method="GET",route="status",status="(\d+)"\} (\d+)',
    re.MULTILINE,
)
_READS = {
    re.sub(r"\{[^}]*\}", "*", one.template): one.name
    for one in vars(routes).values()
    if isinstance(one, routes.Route) and one.method == "GET"
}


def reads(filer: Filer) -> Counter[str]:
    """How many GETs the filer has sent for each route; afterwards it begins anew."""
    sent = [one.removeprefix("GET ") for one in filer.wire.asked if one.startswith("GET ")]
    filer.wire.asked.clear()
    return Counter(_READS[re.sub(r"/spring|/[0-9a-f]{64}|/[0-9]+", "/*", one)] for one in sent)


async def statuses(w: World) -> Counter[str]:
    """How many reads of a status the destination has answered, and how."""
    answer = await w.site.session.ask("GET", routes.METRICS.url(w.site.base_url))
    return Counter({code: int(count) for code, count in _STATUSES.findall(answer.body.decode())})


async def known(filer: Filer, folder: Folder) -> None:
    """Wait until the status names all fragments: it is signed a moment after each was shown."""
    with contextlib.closing(Journal.open(folder)) as journal:
        sealed = journal.submission.sealed
    assert sealed is not None
    url = routes.STATUS.url(
        filer.w.site.base_url, call="spring", commitment=sealed.commitment.hex()
    )
    whole = b'"fragments":[0,1,2]'
    while whole not in (await filer.w.site.session.ask("GET", url)).body:  # noqa: ASYNC110 - its own part
        await asyncio.sleep(0.005)


async def closed(w: World) -> None:
    w.pass_stage_by()
    while not w.site.server.calls.get("spring").is_closed:  # noqa: ASYNC110 - its own part
        await asyncio.sleep(0.005)


async def test_a_filing_is_read_seventeen_times_in_all_its_life(tmp_path: Path) -> None:
    """Submitted, looked at four times, opened, and proven: each read is made once if it can be.

    Every look is a program of its own, which remembers no answer.
    """
    async with filing(tmp_path) as filer:
        w = filer.w
        folder = await filer.submit(FILES)
        await known(filer, folder)
        assert reads(filer) == {"discovery": 1, "terms": 1}
        for _ in range(2):
            await filer.submitter().look(folder)
        await w.collect()
        await filer.submitter().look(folder)
        assert reads(filer) == {"discovery": 3, "status": 3, "repairs": 1}
        await closed(w)
        await w.open()
        looked = await filer.submitter().look(folder)
        assert (looked.state, looked.outcome) == (SubmissionState.OPENED, "opened")
        assert filer.verify(folder.evidence).holds
        assert reads(filer) == {
            "discovery": 1,
            "status": 1,
            "outcome": 1,
            "log_closed": 1,
            "log_opening": 1,
            "log_consistency": 1,
            "log_stamped": 1,
            "minutes": 1,
        }


async def test_a_program_that_stays_transfers_nothing_it_knows(tmp_path: Path) -> None:
    """Its looks at what has not changed are one request each, and its answer has no body."""
    async with filing(tmp_path) as filer:
        submitter = filer.submitter()
        folder = await filer.submit(FILES)
        await known(filer, folder)
        filer.wire.caching = "public, max-age=3600"
        await submitter.look(folder)
        reads(filer)
        before = await statuses(filer.w)
        for _ in range(3):
            await submitter.look(folder)
        assert reads(filer) == {"status": 3}
        assert await statuses(filer.w) - before == {"304": 3}


async def test_what_is_the_same_for_all_is_asked_for_once_for_all(tmp_path: Path) -> None:
    """Of many submissions one asks who the destination is, and what the call has published."""
    async with filing(tmp_path) as filer:
        w, submitter = filer.w, filer.submitter()
        folders = [await filer.submit(FILES, slot=f"lot-{number}") for number in range(4)]
        await w.collect()
        await closed(w)
        await w.open()
        filer.wire.caching = "public, max-age=3600"
        reads(filer)
        for folder in folders:
            assert (await submitter.look(folder)).outcome == "opened"
            assert filer.verify(folder.evidence).holds
        found = reads(filer)
        shared = ("discovery", "log_closed", "log_opening", "minutes")
        assert [found[route] for route in shared] == [1, 1, 1, 1]
        assert found["status"] == found["outcome"] == len(folders)
        assert not found["terms"]


async def test_asking_for_a_repair_signs_the_status_anew(tmp_path: Path) -> None:
    """So a filer who finds the status that he knows need not ask what he is to stage again."""
    async with filing(tmp_path) as filer:
        w, gone = filer.w, ("anna.example", "bert.example")
        folder = await filer.submit(FILES)
        await known(filer, folder)
        first = await filer.submitter().look(folder)
        for name in gone:
            await w.stop(name)
        await w.collect()
        assert (await filer.submitter().look(folder)).status == first.status
        w.clock.advance(15 * 60_000)
        await w.collect()
        assert len(await repairs(w)) == 1
        for name in gone:
            await w.start(name)
        looked = await filer.submitter().look(folder)
        assert looked.status != first.status
        assert "repair" in filer.listener.keys
        await w.collect()
        assert (await filer.submitter().look(folder)).state is SubmissionState.COLLECTED
