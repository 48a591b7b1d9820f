"""Line plots as SVG, written by hand: the same bytes from the same numbers, without a library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

Point = tuple[float, float]

_WIDTH: Final = 790
_HEIGHT: Final = 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 250, 40, 56
_COLOURS: Final = ("#0b5cad", "#c0392b", "#1e8449", "#8e44ad", "#b9770e", "#34495e")
_DASHES: Final = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 4")
"""Lines differ by more than colour."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a plot.

    Attributes:
        is_log: Whether equal steps are equal ratios; ``low`` is then above 0.
        ticks: Where lines and labels are.
    """

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def share(self, value: float) -> float:
        """How far along the axis ``value`` is, 0 to 1; what is beyond the ends is at the end."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Line:
    """A named row of points, from left to right."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with a legend."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]

    def svg(self) -> str:
        """The picture."""
        size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        font = 'font-family="sans-serif" font-size="13" fill="#222"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
            f"<title>{escape(self.title)}</title>",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
            _text(_LEFT, 24, self.title, size=15),
            *self._grid(),
        ]
        for number, line in enumerate(self.lines):
            parts += self._line(number, line)
        return "\n".join([*parts, "</svg>", ""])

    def _place(self, x: float, y: float) -> Point:
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + width * self.x.share(x), _HEIGHT - _BOTTOM - height * self.y.share(y)

    def _grid(self) -> list[str]:
        parts: list[str] = []
        for tick in self.x.ticks:
            at, bottom = self._place(tick, self.y.low)
            _, top = self._place(tick, self.y.high)
            parts.append(_stroke([(at, bottom), (at, top)], "#ddd"))
            parts.append(_text(at, bottom + 18, f"{tick:g}", anchor="middle"))
        for tick in self.y.ticks:
            left, at = self._place(self.x.low, tick)
            right, _ = self._place(self.x.high, tick)
            parts.append(_stroke([(left, at), (right, at)], "#ddd"))
            parts.append(_text(left - 8, at + 4, f"{tick:g}", anchor="end"))
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(_text(middle, _HEIGHT - 14, self.x.label, anchor="middle"))
        up = (_TOP + _HEIGHT - _BOTTOM) / 2
        label = _text(18, up, self.y.label, anchor="middle")
        parts.append(f'<g transform="rotate(-90 18 {up:.1f})">{label}</g>')
        return parts

    def _line(self, number: int, line: Line) -> list[str]:
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
        at = _TOP + 14 + 22 * number
        left = _WIDTH - _RIGHT + 16
        return [
            _stroke([self._place(x, y) for x, y in line.points], colour, dash=dash, width=2),
            _stroke([(left, at - 4), (left + 30, at - 4)], colour, dash=dash, width=2),
            _text(left + 38, at, line.name),
        ]


def _stroke(points: Sequence[Point], colour: str, *, dash: str = "", width: int = 1) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}"{style}/>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )
