"""The report's three figures; all share the horizontal axis, seconds since the call opened."""

from __future__ import annotations

from typing import Final

from bistro.instant import UnixMillis
from bistro.protocol.deadline import latest_on_time
from tests.e2e.demo.drawing import (
    LEFT,
    RIGHT,
    STEP_MS,
    WIDTH,
    Axis,
    Frame,
    box,
    cross,
    diamond,
    dot,
    figure,
    levels,
    line,
    nice,
    rate_text,
    seconds_grid,
    size_text,
    steps,
    text,
)
from tests.e2e.demo.measure import modelled_rates
from tests.e2e.demo.story import FilingStory, Story

_ROW: Final = 15
_TAIL_MS: Final = 800


def axis_of(story: Story) -> Axis:
    """From the opening of the call to a little after the last thing that is drawn."""
    moments = [story.began_at + 2_000]
    for one in story.filings:
        promises = [promise.time for promise in (one.ticket, one.refusal) if promise is not None]
        others = [at for at in (one.uploaded_at, one.collected_at) if at is not None]
        moments += [*promises, *others]
    moments += [scene[1] for scene in (story.collecting, story.opening) if scene is not None]
    return Axis(story.began_at, UnixMillis(max(moments) + _TAIL_MS))


def rates_of(story: Story, axis: Axis) -> tuple[list[int], list[int]]:
    """Bytes a second at the destination in each step: measured, and computed for direct upload."""
    channels = (story.destination, *story.collected_channels)
    span = {"begin": axis.begin, "end": axis.end}
    measured = story.meter.rates(*channels, **span, step_ms=STEP_MS)
    transfers = [x for one in story.on_time if (x := one.direct_transfer) is not None]
    return measured, modelled_rates(transfers, **span, step_ms=STEP_MS)


def timeline(story: Story) -> str:
    """One row for each filing: when it began, its ticket, its uploads, its collection."""
    top, bottom = 58, 58 + _ROW * len(story.filings)
    frame = Frame(axis_of(story), top, bottom)
    legend = (
        dot(LEFT + 5, 10, "begun", radius=2.4) + text(LEFT + 13, 14, "filer begins"),
        dot(LEFT + 117, 10, "ticket") + text(LEFT + 125, 14, "ticket"),
        box(LEFT + 185, 6, LEFT + 209, 14, "upload") + text(LEFT + 215, 14, "uploads to relays"),
        diamond(LEFT + 345, 10, "collected") + text(LEFT + 354, 14, "collected"),
        cross(LEFT + 436, 10, "refused") + text(LEFT + 445, 14, "refused, signed"),
    )
    rows = [_row(one, frame, top + _ROW * (at + 0.5)) for at, one in enumerate(story.filings)]
    parts = (*legend, _backdrop(story, frame, is_labelled=True), seconds_grid(frame), *rows)
    return figure(
        "timeline",
        bottom + 26,
        title="When tickets, uploads and collection of each filing happened",
        description=f"{len(story.filings)} rows, one for each filing, in the order of arrival. "
        "Each ticket follows shortly after its filer began; uploads to the relays follow the "
        "ticket; collection comes after the deadline. The table of filings has every time.",
        parts=parts,
    )


def destination_rates(story: Story) -> str:
    """Bytes a second at the destination: measured, and computed for direct upload."""
    axis = axis_of(story)
    measured, direct = rates_of(story, axis)
    frame = Frame(axis, 62, 262, nice(max(*measured, *direct)))
    words = (
        f"direct upload, computed: peak {rate_text(max(direct))}",
        f"Bistro, measured: peak {rate_text(max(measured))}",
    )
    parts = (
        box(LEFT, 4, LEFT + 14, 16, "direct") + text(LEFT + 20, 14, words[0]),
        box(LEFT + 380, 4, LEFT + 394, 16, "measured") + text(LEFT + 400, 14, words[1]),
        _backdrop(story, frame, is_labelled=True),
        seconds_grid(frame),
        levels(frame),
        steps(direct, frame, "direct"),
        steps(measured, frame, "measured"),
    )
    return figure(
        "destination",
        290,
        title="Bytes a second arriving at the destination",
        description=f"With Bistro, as measured: {size_text(before_deadline(story))} up to the "
        f"deadline, then collection with a peak of {rate_text(max(measured))}. Direct upload, as "
        f"computed: {size_text(story.size)} with a peak of {rate_text(max(direct))}, all of it "
        "while filers hurry. The table below has the figures.",
        parts=parts,
    )


def relay_rates(story: Story) -> str:
    """Bytes a second at each relay, on one scale."""
    axis = axis_of(story)
    series = [
        story.meter.rates(relay.name, begin=axis.begin, end=axis.end, step_ms=STEP_MS)
        for relay in story.relays
    ]
    scale = nice(max(max(one) for one in series))
    parts: list[str] = []
    for place, (relay, values) in enumerate(zip(story.relays, series, strict=True)):
        top = 12 + 104 * place
        frame = Frame(axis, top, top + 78, scale)
        total = size_text(story.meter.total(relay.name))
        parts += [
            _backdrop(story, frame, is_labelled=False, down=relay.name),
            seconds_grid(frame, is_labelled=place == len(series) - 1),
            levels(frame, count=2),
            steps(values, frame, "relay"),
            text(0, top + 14, relay.name, "name"),
            text(0, top + 30, relay.operator, "tick"),
            text(0, top + 46, f"{total} in all", "tick"),
        ]
    down = f"; {story.kill.relay} receives nothing while it is down" if story.kill else ""
    return figure(
        "relays",
        12 + 104 * len(series),
        title="Bytes a second arriving at each relay",
        description=f"Panels on one scale, one for each relay. Uploads arrive from the first "
        f"ticket on{down}. The table below has the figures.",
        parts=parts,
    )


def before_deadline(story: Story) -> int:
    """Bytes that had arrived at the destination when the last ticket could be given."""
    if story.terms is None:
        return 0
    return story.meter.total(story.destination, until=latest_on_time(story.terms))


def _backdrop(story: Story, frame: Frame, *, is_labelled: bool, down: str | None = None) -> str:
    """Deadline, grace, collection, opening, and the time in which a relay was down."""
    x, top, bottom = frame.axis.x, frame.top, frame.bottom
    parts: list[str] = []
    labels: list[str] = []
    kill = story.kill
    if kill is not None and kill.back_at is not None and down in (None, kill.relay):
        if is_labelled or down == kill.relay:
            parts.append(box(x(kill.at), top, x(kill.back_at), bottom, "down"))
        words = f"{kill.relay} killed, and back"
        labels.append(
            text((x(kill.at) + x(kill.back_at)) / 2, top - 22, words, "alarm", anchor="middle")
        )
    for scene, word in ((story.collecting, "collect"), (story.opening, "open")):
        if scene is not None:
            left, right = x(scene[0]), x(scene[1])
            parts.append(box(left, top, right, bottom, "scene"))
            parts += [line(at, top, at, bottom, "edge") for at in (left, right)]
            labels.append(text((left + right) / 2, top - 8, word, "tick", anchor="middle"))
    if story.terms is not None:
        closes, last = x(story.terms.closes), x(latest_on_time(story.terms))
        parts.append(box(closes, top, last, bottom, "grace"))
        parts.append(line(last, top - 4, last, bottom, "deadline"))
        labels.append(text(last, top - 22, "deadline, grace included", "strong", anchor="middle"))
    return "".join(parts + (labels if is_labelled else []))


def _row(one: FilingStory, frame: Frame, y: float) -> str:
    x = frame.axis.x
    parts = [
        text(0, y + 4, one.label, "name"),
        text(LEFT - 8, y + 4, size_text(one.filing.size), "tick", anchor="end"),
        line(LEFT, y, WIDTH - RIGHT, y, "row"),
    ]
    if one.began_at is not None:
        parts.append(dot(x(one.began_at), y, "begun", radius=2.4))
    if one.ticket is not None:
        if one.uploaded_at is not None:
            left, right = x(one.ticket.time), x(one.uploaded_at)
            parts.append(box(left, y - 4, right, y + 4, "upload"))
        parts.append(dot(x(one.ticket.time), y, "ticket"))
    if one.collected_at is not None:
        parts.append(diamond(x(one.collected_at), y, "collected"))
    if one.refusal is not None:
        parts.append(cross(x(one.refusal.time), y, "refused"))
    return "".join(parts)
