"""The plot: one HTML file that needs no network and no script.

Above, how many ask and how many hold a ticket in each second; below, how long a ticket took.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Final

from bistro.instant import UnixMillis
from tests.e2e.demo.drawing import LEFT, RIGHT, WIDTH, Axis, Frame, box, figure, line, text
from tests.e2e.demo.style import CSS
from tests.workload.judging import percentile
from tests.workload.replay import Replay
from tests.workload.table import headline, rows, subtitle
from tests.workload.windows import GRACE_S

_MS_PER_S: Final = 1_000
_TOP: Final = 34.0
_RATES_BOTTOM: Final = 214.0
_TIMES_TOP: Final = 250.0
_TIMES_BOTTOM: Final = 450.0
_HEIGHT: Final = 480.0
_DECADES: Final = (1, 10, 100, 1_000, 10_000, 100_000)
_STYLES: Final = """
svg .asked{fill:none;stroke:var(--direct);stroke-width:1.4;stroke-dasharray:4 2}
svg .held{fill:color-mix(in srgb,var(--measured) 45%,transparent);stroke:var(--measured)}
svg .p50{fill:none;stroke:var(--done);stroke-width:1.8}
svg .p99{fill:none;stroke:var(--measured);stroke-width:1.8}
svg .longest{fill:none;stroke:var(--bad);stroke-width:1.2;stroke-dasharray:2 2}
"""


def render(done: Replay) -> str:
    """The whole page."""
    title = headline(done)
    is_good = done.verdict.is_valid and not done.verdict.faults
    faults = "".join(f'<p class="broken">{escape(x)}</p>' for x in done.verdict.faults)
    notes = "".join(f"<li>{escape(note)}</li>" for note in done.notes)
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows(done)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}{_STYLES}</style></head><body><main>"
        f'<h1 class="{"kept" if is_good else "broken"}">{escape(title)}</h1>'
        f'<p class="soft">{escape(subtitle(done))}</p>{faults}'
        f'<figure><div class="scroll" tabindex="0" role="group">{_plot(done)}</div></figure>'
        f"<table><caption>The run in numbers</caption>{cells}</table>"
        "<p>Server, client and disk share one machine; every filer has a connection of its own "
        "and asks when its moment has come, whatever became of the others. Times count from that "
        f"moment, so that nothing which waits is left out.</p><ul>{notes}</ul>"
        "</main></body></html>\n"
    )


def _plot(done: Replay) -> str:
    seconds = max(done.window.length_s, *(math.ceil(at) for at in _answered(done))) + 1
    axis = Axis(UnixMillis(0), UnixMillis(seconds * _MS_PER_S))
    asked, held = [0] * seconds, [0] * seconds
    times: list[list[float]] = [[] for _ in range(seconds)]
    for record in done.run.records:
        asked[int(record.due_s)] += 1
        if record.answer == "ticket" and record.took_s is not None:
            held[int(record.due_s + record.took_s)] += 1
            times[int(record.due_s)].append(done.rules.waited_s(record))
    rates = Frame(axis, _TOP, _RATES_BOTTOM, scale=_nice(max(*asked, *held, 1)))
    parts = [*_bands(done, axis), *_rate_levels(rates), *_time_levels(axis)]
    parts += [
        _steps(held, rates.y, axis, "held", floor=_RATES_BOTTOM),
        _steps(asked, rates.y, axis, "asked"),
    ]
    for share, kind in ((0.5, "p50"), (0.99, "p99"), (1.0, "longest")):
        values = [percentile(sorted(found), share) if found else None for found in times]
        parts.append(_steps(values, _height, axis, kind))
    parts += _labels()
    return figure(
        "replay",
        _HEIGHT,
        title="Filers who ask, tickets given, and the time to a ticket, second by second",
        description="Above, filers who began to ask and tickets that were given in each second. "
        "Below, on a logarithmic scale, median, 99th percentile and longest time to a ticket of "
        "those who began to ask in that second. The numbers stand in the table below.",
        parts=parts,
    )


def _answered(done: Replay) -> Iterator[float]:
    yield 0.0
    for record in done.run.records:
        yield record.due_s + (record.took_s or 0.0)


def _bands(done: Replay, axis: Axis) -> Iterator[str]:
    def at(second: float) -> float:
        return axis.x(round(second * _MS_PER_S))

    window = done.window
    if done.cost.down is not None:
        begin, end = map(at, done.cost.down)
        yield box(begin, _TOP, end, _TIMES_BOTTOM, "down", tip="nobody listens")
        yield text((begin + end) / 2, _TOP - 8, "server dead", "alarm", anchor="middle")
    closes = at(window.closes_s)
    grace = at(window.closes_s + GRACE_S)
    yield box(closes, _TOP, grace, _TIMES_BOTTOM, "grace", tip="grace")
    yield line(closes, _TOP, closes, _TIMES_BOTTOM, "deadline")
    yield text(closes, _TOP - 8, "deadline", "strong", anchor="end")
    if window.opens_s > 0:
        yield line(at(window.opens_s), _TOP, at(window.opens_s), _TIMES_BOTTOM, "edge")
        yield text(at(window.opens_s), _TOP - 8, "opens", "name")
    for second in axis.seconds:
        x = at(second)
        yield line(x, _TOP, x, _TIMES_BOTTOM, "grid")
        yield text(x, _TIMES_BOTTOM + 18, f"{second} s", "tick", anchor="middle")


def _rate_levels(frame: Frame) -> Iterator[str]:
    for step in range(5):
        value = frame.scale * step / 4
        y = frame.y(value)
        yield line(LEFT, y, WIDTH - RIGHT, y, "grid" if step else "base")
        yield text(LEFT - 8, y + 4, f"{value:,.0f}/s", "tick", anchor="end")


def _time_levels(axis: Axis) -> Iterator[str]:
    for decade in _DECADES:
        y = _height(decade / _MS_PER_S)
        yield line(axis.x(axis.begin), y, axis.x(axis.end), y, "grid")
        words = f"{decade} ms" if decade < _MS_PER_S else f"{decade // _MS_PER_S} s"
        yield text(LEFT - 8, y + 4, words, "tick", anchor="end")


def _labels() -> Iterator[str]:
    middle = (_TOP + _RATES_BOTTOM) / 2
    yield line(8, middle - 4, 28, middle - 4, "asked")
    yield text(34, middle, "begin to ask", "name")
    yield box(8, middle + 10, 28, middle + 18, "held")
    yield text(34, middle + 18, "get a ticket", "name")
    middle = (_TIMES_TOP + _TIMES_BOTTOM) / 2
    yield text(8, middle - 26, "time to ticket", "strong")
    for at, (kind, words) in enumerate((("longest", "longest"), ("p99", "p99"), ("p50", "median"))):
        y = middle - 4 + 18 * at
        yield line(8, y - 4, 28, y - 4, kind)
        yield text(34, y, words, "name")


def _height(seconds: float) -> float:
    """Where a duration lies, on a logarithmic scale from 1 ms to 100 s."""
    decades = math.log10(_DECADES[-1])
    share = math.log10(max(1.0, seconds * _MS_PER_S)) / decades
    return round(_TIMES_BOTTOM - (_TIMES_BOTTOM - _TIMES_TOP) * min(1.0, share), 1)


def _nice(value: int) -> int:
    """The next of 1, 2, 4, 8 times a power of ten at or above ``value``, at least 4."""
    power = 1
    while True:
        for factor in (1, 2, 4, 8):
            if factor * power >= max(4, value):
                return factor * power
        power *= 10


def _steps(
    values: Sequence[float | None],
    height: Callable[[float], float],
    axis: Axis,
    kind: str,
    *,
    floor: float | None = None,
) -> str:
    """A line with one step for each second, broken where there is no value; filled to ``floor``."""
    path: list[str] = []
    is_drawing = False
    for second, value in enumerate(values):
        if value is None:
            is_drawing = False
            continue
        y = height(value)
        left, right = (axis.x(axis.at(at)) for at in (second, second + 1))
        if not is_drawing:
            path.append(f"M{left:g} {y if floor is None else floor:g}")
        path.append(f"L{left:g} {y:g}L{right:g} {y:g}")
        is_drawing = True
    if floor is not None:
        path.append(f"L{axis.x(axis.end):g} {floor:g}Z")
    return f'<path d="{"".join(path)}" class="{kind}"/>'
