"""The report and the table: complete, self-contained, and never kinder than the verdicts."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from tests.e2e.demo.drawing import nice, size_text
from tests.e2e.demo.promises import Promise, Verdicts, shortened
from tests.e2e.demo.report import render
from tests.e2e.demo.table import show
from tests.unit.demo.stories import story


def test_the_report_needs_nothing_from_anywhere() -> None:
    """No script, no address, no embedded resource: one file for ever."""
    page = render(story())
    assert not re.search(r"<script|<link|<img|<iframe|https?://|url\(|@import|\bon\w+=", page)


def test_every_figure_says_in_words_what_it_shows() -> None:
    """Whoever does not see the figure has a title, a description and a table."""
    page = render(story())
    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(figures) == 3
    for text in figures:
        figure = ET.fromstring(text)
        labels = figure.attrib["aria-labelledby"].split()
        assert figure.attrib["role"] == "img"
        assert [figure[0].attrib["id"], figure[1].attrib["id"]] == labels
        assert all(len(figure[at].text or "") > 20 for at in (0, 1))
    assert page.count("<table>") == page.count("<caption>") == 3
    assert '<html lang="en">' in page


def test_the_report_names_every_promise_and_every_filing() -> None:
    """Nothing is left out because it went well, or badly."""
    told = story()
    page = render(told)
    assert all(promise.value.replace("'", "&#x27;") in page for promise in Promise)
    assert all(one.label in page for one in told.filings)
    assert f"all {len(Promise)} promises kept" in page
    assert "BROKEN" not in page


def test_an_assumed_clock_error_is_stated_openly() -> None:
    """And text is text, whatever it contains."""
    assert "Assumed clock error" in render(story())
    assert "50 ms &lt;assumed&gt;" in render(story())


@pytest.mark.parametrize(
    ("offset", "words"),
    [(None, "to another relay"), (0, "all of it again"), (4_194_304, "at byte 4,194,304")],
)
def test_the_report_says_what_became_of_the_broken_upload(offset: int | None, words: str) -> None:
    """As the requests show it: elsewhere, from the beginning, or from where it broke."""
    told = story()
    assert told.kill is not None
    told.kill.resumed_from = offset
    assert words in render(told)


def test_stretched_times_are_stated_openly() -> None:
    """A busy machine gave everybody more time; the report does not hide it."""
    told = story()
    assert "stretched" not in render(told)
    told.slowness = 1.5
    assert "stretched by 1.5" in render(told)


def test_computed_figures_are_said_to_be_computed() -> None:
    """Nobody may take the direct upload for a measurement."""
    assert "computed, not measured" in render(story())


def test_a_broken_promise_cannot_be_overlooked() -> None:
    """It stands in the title, in its row with what broke it, and on the terminal."""
    told = story()
    told.verdicts.examined(Promise.OPENED, ["07 ferry-company: differs <b>"])
    page = render(told)
    assert f"1 of {len(Promise)} promises BROKEN" in page
    assert "07 ferry-company: differs &lt;b&gt;" in page
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as capture:
        show(console, told)
    assert "BROKEN" in capture.get()
    assert "07 ferry-company: differs" in capture.get()


def test_what_was_not_examined_is_broken() -> None:
    """A promise cannot be kept by forgetting it, nor by looking at it again."""
    verdicts = Verdicts()
    kept = [verdicts.are_kept]
    for promise in Promise:
        verdicts.examined(promise, [])
    kept.append(verdicts.are_kept)
    verdicts.examined(Promise.LATE, ["it was taken"])
    verdicts.examined(Promise.LATE, [])
    assert [*kept, verdicts.are_kept] == [False, True, False]
    assert verdicts.verdict(Promise.LATE).faults == ("it was taken",)


def test_an_early_end_is_told_and_what_is_missing_is_drawn_around() -> None:
    """A report is written even if there is next to nothing to tell."""
    told = story()
    told.terms = told.kill = told.collecting = told.opening = None
    told.accident = "it rained"
    for one in told.filings:
        one.ticket = one.refusal = one.began_at = one.collected_at = None
        one.receipts = ()
    assert "it rained" in render(told)
    show(Console(quiet=True), told)


def test_the_terminal_shows_a_row_for_each_filing() -> None:
    """With size, files, ticket, upload, collection, opening and verification."""
    told = story()
    console = Console(width=140)
    with console.capture() as capture:
        show(console, told)
    text = capture.get()
    assert all(one.label in text for one in told.filings)
    assert text.count("identical") == len(told.on_time)
    assert "refused" in text
    assert "50 ms" in text


def test_direct_upload_keeps_the_bytes_of_the_filings() -> None:
    """What is computed is the files' size, from the moment that the filer began."""
    for one in story().on_time:
        transfer = one.direct_transfer
        assert transfer is not None
        assert transfer.size == one.filing.size
        assert transfer.begin == one.began_at
        assert 0 < transfer.end - transfer.begin <= 700


def test_sizes_and_scales_are_readable() -> None:
    """Three digits and a unit; scales end on round numbers."""
    assert [size_text(x) for x in (0, 999, 1_000, 12_345, 20_000_000)] == [
        "0 B",
        "999 B",
        "1.00 kB",
        "12.3 kB",
        "20.0 MB",
    ]
    assert [nice(x) for x in (0, 1_001, 3_000, 41_000_000)] == [1_000, 2_000, 4_000, 50_000_000]


def test_long_faults_are_shortened_in_the_middle() -> None:
    """A traceback does not push the other promises off the page; its end is what matters."""
    text = shortened("begin " + "x" * 5_000 + "\n end")
    assert len(text) < 400
    assert text.startswith("begin")
    assert text.endswith("end")
