"""SVG as text: an axis of seconds, levels of bytes a second, steps, labels; colours are classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from bistro.instant import UnixMillis

WIDTH: Final = 980
LEFT: Final = 196
RIGHT: Final = 16
STEP_MS: Final = 500
"""Bytes a second are averages over this long."""
_MS_PER_S: Final = 1_000
_LONG_S: Final = 16


@dataclass(frozen=True, slots=True)
class Axis:
    """The horizontal axis: from one moment to another."""

    begin: UnixMillis
    end: UnixMillis

    def x(self, at: int) -> float:
        """Where a moment lies, kept within the figure."""
        share = min(1.0, max(0.0, (at - self.begin) / (self.end - self.begin)))
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    @property
    def seconds(self) -> range:
        """Seconds that are labelled."""
        length_s = (self.end - self.begin) // _MS_PER_S
        return range(0, length_s + 1, 5 if length_s >= _LONG_S else 2)

    def at(self, second: int) -> UnixMillis:
        """The moment ``second`` after the beginning."""
        return UnixMillis(self.begin + second * _MS_PER_S)


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of a figure in which data stands, and the value at its top."""

    axis: Axis
    top: float
    bottom: float
    scale: int = 1

    def y(self, value: float) -> float:
        """The height of a value."""
        return round(self.bottom - (self.bottom - self.top) * min(1.0, value / self.scale), 1)


def size_text(size: float) -> str:
    """Decimal units, three digits: ``950 B``, ``1.00 kB``, ``20.0 MB``."""
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            value = size / factor
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits}f} {unit}"
    return f"{size:.0f} B"


def rate_text(rate: float) -> str:
    """Bytes a second."""
    return f"{size_text(rate)}/s"


def nice(value: float) -> int:
    """The next of 1, 2, 4, 5 times a power of ten at or above ``value``, at least 1,000."""
    power = 1_000
    while True:
        for factor in (1, 2, 4, 5):
            if factor * power >= value:
                return factor * power
        power *= 10


def figure(name: str, height: float, *, title: str, description: str, parts: Iterable[str]) -> str:
    """A whole SVG element, which says in words what it shows."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def text(x: float, y: float, words: str, kind: str = "", *, anchor: str = "start") -> str:
    """Words at a place."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{kind}"/>'


def box(x1: float, y1: float, x2: float, y2: float, kind: str, *, tip: str = "") -> str:
    """A rectangle, at least a hair wide; ``tip`` appears where there is a pointer."""
    shape = (
        f'<rect x="{x1:g}" y="{y1:g}" width="{max(1.2, x2 - x1):g}" height="{y2 - y1:g}" '
        f'class="{kind}"'
    )
    return f"{shape}><title>{escape(tip)}</title></rect>" if tip else f"{shape}/>"


def dot(x: float, y: float, kind: str, *, radius: float = 3.6) -> str:
    """A filled circle."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class="{kind}"/>'


def diamond(x: float, y: float, kind: str, *, radius: float = 4.4) -> str:
    """A square on its corner."""
    r = radius
    return f'<path d="M{x:g} {y - r:g}l{r:g} {r:g}l{-r:g} {r:g}l{-r:g} {-r:g}z" class="{kind}"/>'


def cross(x: float, y: float, kind: str, *, radius: float = 3.8) -> str:
    """Two strokes."""
    r = radius
    strokes = f"M{x - r:g} {y - r:g}l{2 * r:g} {2 * r:g}m{-2 * r:g} 0l{2 * r:g} {-2 * r:g}"
    return f'<path d="{strokes}" class="{kind}"/>'


def seconds_grid(frame: Frame, *, is_labelled: bool = True) -> str:
    """Vertical lines, with seconds below them."""
    parts: list[str] = []
    for second in frame.axis.seconds:
        x = frame.axis.x(frame.axis.at(second))
        parts.append(line(x, frame.top, x, frame.bottom, "grid"))
        if is_labelled:
            label = f"{second} s" if second == 0 else str(second)
            parts.append(text(x, frame.bottom + 16, label, "tick", anchor="middle"))
    return "".join(parts)


def levels(frame: Frame, *, count: int = 4) -> str:
    """Horizontal lines with the bytes a second that they stand for."""
    parts: list[str] = []
    for step in range(count + 1):
        value = frame.scale * step / count
        y = frame.y(value)
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, "grid" if step else "base"))
        label = rate_text(value) if step else "0"
        parts.append(text(LEFT - 8, y + 4, label, "tick", anchor="end"))
    return "".join(parts)


def steps(values: Sequence[int], frame: Frame, kind: str) -> str:
    """A filled area with one step for each value of ``STEP_MS``."""
    points = [f"M{frame.axis.x(frame.axis.begin):g} {frame.bottom:g}"]
    for place, value in enumerate(values):
        y = frame.y(value)
        left = frame.axis.x(frame.axis.begin + place * STEP_MS)
        right = frame.axis.x(frame.axis.begin + (place + 1) * STEP_MS)
        points.append(f"L{left:g} {y:g}L{right:g} {y:g}")
    points.append(f"L{frame.axis.x(frame.axis.end):g} {frame.bottom:g}Z")
    return f'<path d="{"".join(points)}" class="{kind}"/>'
