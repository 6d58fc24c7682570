"""Pictures as SVG text: lines, dots and bars on axes.

Colours are classes of the page's style sheet, so that pictures follow the light or dark theme. A
picture holds no font, script or address. A curve of 40 lines takes 2 kB; matplotlib's SVG of it
takes 30 kB.

Shapes:
    P  points of one line or one colour
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from graphfm.report.text import plain, short

WIDTH, HEIGHT = 480, 300  # user units; letters of 13 units stay legible on a phone
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 44
NUM_COLORS = 8  # c0 .. c7 of the style sheet; c8 is grey


class Plot:
    """Axes of one picture with its marks.

    Args:
        title: Title; it begins the alternative text.
        about: Rest of the alternative text: the main numbers of the picture.
        x: Minimum and maximum of the horizontal axis.
        y: Minimum and maximum of the vertical axis.
        x_label: Label of the horizontal axis. Default: none.
        y_label: Label of the vertical axis. Default: none.
        height: Height in user units; the width is :data:`WIDTH`.
    """

    def __init__(
        self,
        title: str,
        *,
        about: str,
        x: tuple[float, float],
        y: tuple[float, float],
        x_label: str = "",
        y_label: str = "",
        height: int = HEIGHT,
    ):
        self.title, self.about = title, about
        self.x, self.y = _widened(x), _widened(y)
        self.labels = (x_label, y_label)
        self.height = height
        self.parts: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Convert a point of the data to user units."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        down = TOP + (y1 - y) / (y1 - y0) * (self.height - TOP - BOTTOM)
        return round(across, 1), round(down, 1)

    def line(self, xs: Sequence[float], ys: Sequence[float], look: str) -> None:
        """Draw a line through the finite points."""
        points = [self.at(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
        path = " ".join(f"{a:g},{b:g}" for a, b in points)
        if len(points) > 1:
            self.parts.append(f'<polyline class="line {look}" points="{path}"/>')

    def dots(self, xs: Sequence[float], ys: Sequence[float], look: str) -> None:
        """Draw points as one path of round dots: 12 bytes a point."""
        path = "".join("M{:g} {:g}h0".format(*self.at(x, y)) for x, y in zip(xs, ys, strict=True))
        if path:
            self.parts.append(f'<path class="dots {look}" d="{path}"/>')

    def crosses(self, xs: Sequence[float], ys: Sequence[float], look: str) -> None:
        """Draw points as small crosses."""
        path = "".join(
            "M{:g} {:g}l5 5m0-5l-5 5".format(*(v - 2.5 for v in self.at(x, y)))
            for x, y in zip(xs, ys, strict=True)
        )
        if path:
            self.parts.append(f'<path class="cross {look}" d="{path}"/>')

    def vertical_line(self, x: float, text: str, look: str) -> None:
        """Draw a vertical line with a word at its top."""
        across, top = self.at(x, self.y[1])
        bottom = self.at(x, self.y[0])[1]
        end = across > WIDTH - 120
        place = f'x="{across + (-5 if end else 5):g}" text-anchor="{"end" if end else "start"}"'
        self.parts.append(
            f'<line class="{look}" x1="{across:g}" x2="{across:g}" y1="{top:g}" y2="{bottom:g}"/>'
            f'<text {place} y="{top + 12:g}">{_text(text)}</text>'
        )

    def svg(self, *, ticks: bool = True) -> str:
        """Return the picture; if ``ticks``, with numbers and grid lines at the axes."""
        name = f"{_text(self.title)}. {_text(self.about)}"
        axes = self._ticks() if ticks else ""
        return (
            f'<svg role="img" viewBox="0 0 {WIDTH} {self.height}" aria-label="{name}">'
            f"<title>{_text(self.title)}</title>{axes}{''.join(self.parts)}{self._words()}</svg>"
        )

    def _ticks(self) -> str:
        out = []
        left, bottom = self.at(self.x[0], self.y[0])
        for value in nice_ticks(*self.y):
            _, down = self.at(self.x[0], value)
            out.append(
                f'<line class="grid" x1="{left:g}" x2="{WIDTH - RIGHT}" y1="{down:g}" y2="{down:g}"'
                f'/><text x="{left - 6:g}" y="{down + 4:g}" text-anchor="end">{value:g}</text>'
            )
        for value in nice_ticks(*self.x):
            across, _ = self.at(value, self.y[0])
            out.append(
                f'<text x="{across:g}" y="{bottom + 17:g}" text-anchor="middle">{value:g}</text>'
            )
        return "".join(out)

    def _words(self) -> str:
        across, up = self.labels
        middle = TOP + (self.height - TOP - BOTTOM) / 2
        return (
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{self.height - 6}" text-anchor="middle">'
            f"{_text(across)}</text>"
            f'<text transform="translate(13 {middle:g}) rotate(-90)" text-anchor="middle">'
            f"{_text(up)}</text>"
        )


def bar(value: float, *, top: float, spread: float = 0.0, look: str = "c0") -> str:
    """Draw a small bar for a row of a table, from 0 to ``top``; a negative value gives no bar."""
    width = max(0.0, min(1.0, value / top if top > 0 else 0.0)) * 120
    whisker = ""
    if spread > 0 and top > 0:
        low, high = (max(0.0, min(1.0, (value + s * spread) / top)) * 120 for s in (-1, 1))
        whisker = (
            f'<path class="whisker" d="M{low:.1f} 7H{high:.1f}M{low:.1f} 4v6M{high:.1f} 4v6"/>'
        )
    return (
        '<svg class="mini" aria-hidden="true" viewBox="0 0 122 14">'
        f'<rect class="track" width="120" height="14"/>'
        f'<rect class="fill {look}" width="{width:.1f}" height="14"/>{whisker}</svg>'
    )


def interval(value: float, low: float, high: float, *, look: str = "c0") -> str:
    """Draw a score between 0 and 1 with its interval, for a row of a table."""
    a, b, c = (5 + 210 * min(1.0, max(0.0, v)) for v in (low, value, high))
    return (
        '<svg class="mini wide" aria-hidden="true" viewBox="0 0 220 14">'
        f'<path class="axis" d="M5 7H215"/><path class="whisker {look}" d="M{a:.1f} 7H{c:.1f}"/>'
        f'<circle class="fill {look}" cx="{b:.1f}" cy="7" r="3.5"/></svg>'
    )


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Draw a legend from pairs of a style-sheet class and a text."""
    items = "".join(
        f'<li><svg class="key" aria-hidden="true" viewBox="0 0 12 12">{_key(look)}</svg>'
        f"{_text(short(text))}</li>"
        for look, text in entries
    )
    return f'<ul class="legend">{items}</ul>'


def nice_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Choose round numbers between two values.

    >>> nice_ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / most
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _key(look: str) -> str:
    if look == "wrong":
        return '<path class="cross wrong" d="M3 3l6 6m0-6l-6 6"/>'
    return f'<circle class="fill {look}" cx="6" cy="6" r="5"/>'


def _widened(ends: tuple[float, float]) -> tuple[float, float]:
    """Widen an axis of length zero."""
    low, high = ends
    return (low, high) if high - low > 1e-12 * max(1.0, abs(low)) else (low - 0.5, high + 0.5)


def _text(text: str) -> str:
    return escape(plain(text))
