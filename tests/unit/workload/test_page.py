"""Table and plot: complete, self-contained, and never kinder than the verdict."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from bistro.instant import UnixMillis
from tests.workload.judging import Rules, Spread, Verdict
from tests.workload.page import render
from tests.workload.records import Record, Run
from tests.workload.replay import Cost, Replay, Wish
from tests.workload.table import headline, rows, show
from tests.workload.windows import REPLAYED, Replayed


def replay(name: Replayed = "D") -> Replay:
    """A run of ten seconds with one filer each 100 ms."""
    wish = Wish(name, 10, 0.1, 1, has_reads=True)
    records = [
        Record(at, at / 10, 0.001, at * 100, 0.002 * (1 + at % 7), "ticket", "x", 1)
        for at in range(100)
    ]
    lost = Record(100, 11.5, attempts=3, problem="overloaded")
    spread = Spread(100, 0.002, 0.01, 0.012, 0.014)
    verdict = Verdict(
        in_time=100,
        edge=2,
        edge_refused=1,
        refused=1,
        unanswered=1,
        tickets=100,
        again=1,
        ticket_time=spread,
        lateness=spread,
        log_size=102,
        sampled=100,
    )
    run = Run((*records, lost), 0.2, {200: 5, 404: 1}, (0.001, 0.002), {"overloaded": 3})
    rules = Rules(UnixMillis(0), wish.window.opens_s, UnixMillis(11_000))
    cost = Cost(1.5, 0.4, (2.0, 4.5) if name == "G" else None)
    return Replay(wish, wish.window, rules, run, verdict, cost, ("a <note>",))


@pytest.mark.parametrize("name", REPLAYED)
def test_the_page_needs_nothing_from_anywhere(name: Replayed) -> None:
    """No script, no address, no embedded resource; the figure is well-formed and speaks."""
    page = render(replay(name))
    assert not re.search(r"<script|<link|<img|<iframe|https?://|url\(|@import|\bon\w+=", page)
    (found,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    figure = ET.fromstring(found)
    assert figure.attrib["role"] == "img"
    assert all(len(figure[at].text or "") > 40 for at in (0, 1))
    assert "a &lt;note&gt;" in page
    assert "deadline" in found
    assert ("server dead" in found) == (name == "G")
    assert (">opens<" in found) == (name == "F")


def test_everything_that_was_measured_is_told() -> None:
    """Also what is not flattering."""
    told = dict(rows(replay("G")))
    assert told["time to ticket"] == "p50 2.0 ms, p99 10.0 ms, p99.9 12.0 ms, max 14.0 ms"
    assert "max 14.0 ms" in told["time to ticket, asked of a living server"]
    assert told["asked more than once"] == "1 (overloaded 3)"
    assert told["asked after the grace"] == "1 hold a signed refusal, 1 nothing"
    assert told["nobody listened"] == "from 2.00 s to 4.50 s, for 2.50 s"
    assert told["status reads, by answer"] == "200: 5, 404: 1"
    assert "20 % of its core" in told["generator late (bound 100 ms)"]


def test_the_headline_says_the_worst() -> None:
    """Broken before invalid before good, in the table and on the page."""
    good = replay()
    late = replace(good.verdict, lateness=Spread(1, 0.2, 0.2, 0.2, 0.2))
    broken = replace(late, faults=("filing 7: <lost>",))
    assert "nobody late of 100" in headline(good)
    assert "INVALID" in headline(replace(good, verdict=late))
    bad = replace(good, verdict=broken)
    assert "BROKEN" in headline(bad)
    assert "filing 7: &lt;lost&gt;" in render(bad)
    output = StringIO()
    show(Console(file=output, width=120), bad)
    text = output.getvalue()
    assert "broken: filing 7: <lost>" in text
    assert "note: a <note>" in text
