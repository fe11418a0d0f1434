"""Inline SVG in small pieces: elements, an axis frame, ticks. Colours come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec
from markupsafe import Markup, escape

Pairs = Sequence[tuple[float, float]]


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An element; text children and attribute values are escaped, Markup is taken as it is.

    Attribute names: ``class_`` is ``class``, other underscores are hyphens. None is left out.
    """
    pairs = (
        (key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
        if value is not None
    )
    head = "".join(f' {key}="{escape(value)}"' for key, value in pairs)
    body = "".join(str(escape(child)) for child in children)
    # Every part was escaped above.
    return Markup(f"<{name}{head}>{body}</{name}>")  # noqa: S704


def text(content: str, x: float, y: float, class_: str = "", anchor: str = "start") -> Markup:
    """A label with its baseline at (x, y)."""
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=class_ or None)


def drawing(width: float, height: float, title: str, parts: Iterable[Markup]) -> Markup:
    """The whole drawing, as wide as its place on the page; screen readers read the title."""
    return element(
        "svg", *parts, viewBox=f"0 0 {_number(width)} {_number(height)}", role="img",
        aria_label=title,
    )  # fmt: skip


def polyline(points: Pairs, class_: str) -> Markup:
    """A line through points in drawing units."""
    joined = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    return element("polyline", points=joined, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def dot(x: float, y: float, class_: str, tip: str, radius: float = 3.5) -> Markup:
    """A point with a text that shows under the pointer."""
    return element("circle", element("title", tip), cx=x, cy=y, r=radius, class_=class_)


def bar(x: float, y: float, width: float, height: float, class_: str, tip: str) -> Markup:
    """A filled rectangle with a text that shows under the pointer."""
    tooltip = element("title", tip)
    return element("rect", tooltip, x=x, y=y, width=width, height=height, class_=class_)


class Frame(msgspec.Struct, frozen=True):
    """A plotting area and its scales, drawing units.

    Attributes:
        x_range: Data values at the left and right edge.
        y_max: Data value at the upper edge.
        log_x: Whether equal steps to the right are equal factors.
        y_min: Data value at the lower edge.
        log_y: Whether equal steps upwards are equal factors; smaller values stand at the lower
            edge.
    """

    x_range: tuple[float, float]
    y_max: float
    log_x: bool = False
    width: float = 420.0
    height: float = 250.0
    left: float = 42.0
    right: float = 14.0
    top: float = 12.0
    bottom: float = 38.0
    y_min: float = 0.0
    log_y: bool = False

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        low, high = self.x_range
        if self.log_x:
            low, high, value = math.log2(low), math.log2(high), math.log2(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Vertical place of a value; larger is higher up."""
        share = (value - self.y_min) / (self.y_max - self.y_min)
        if self.log_y:
            share = math.log(max(value, self.y_min) / self.y_min) / math.log(
                self.y_max / self.y_min
            )
        return self.floor - share * self._inner_height

    @property
    def floor(self) -> float:
        """Vertical place of the lower edge."""
        return self.height - self.bottom

    @property
    def _inner_height(self) -> float:
        return self.height - self.top - self.bottom

    def axes(self, x_ticks: Sequence[float], x_title: str) -> list[Markup]:
        """Grid, tick labels and the title of the horizontal axis."""
        heights = log_ticks(self.y_min, self.y_max) if self.log_y else ticks(self.y_max)
        rows = self.rows((value, plain(value)) for value in heights)
        return rows + self.columns((value, plain(value)) for value in x_ticks) + self.title(x_title)

    def rows(self, levels: Iterable[tuple[float, str]]) -> list[Markup]:
        """Horizontal lines of the grid, each at a data value and with a label on its left."""
        parts: list[Markup] = []
        for value, label in levels:
            level = self.y(value)
            parts.append(line(self.left, level, self.width - self.right, level, "grid"))
            parts.append(text(label, self.left - 7, level + 4, "tick", "end"))
        return parts

    def columns(self, places: Iterable[tuple[float, str]]) -> list[Markup]:
        """Tick labels below the plotting area, those left out that would touch another one."""
        parts: list[Markup] = []
        before = -math.inf
        for value, label in places:
            place = self.x(value)
            if place - before >= 26:
                parts.append(text(label, place, self.floor + 17, "tick", "middle"))
                before = place
        return parts

    def title(self, words: str) -> list[Markup]:
        """Title of the horizontal axis."""
        middle = (self.left + self.width - self.right) / 2
        return [text(words, middle, self.height - 4, "axis", "middle")]


def ticks(highest: float, about: int = 4) -> list[float]:
    """Round values from 0 up to `highest`."""
    if highest <= 0:
        return [0.0]
    raw = highest / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    return [step * n for n in range(int(highest / step * 1.0001) + 1)]


def between(low: float, high: float, about: int = 5) -> list[float]:
    """Round values between two others for a linear axis that does not begin at 0."""
    steps = ticks(high - low, about)
    step = steps[1] if len(steps) > 1 else high or 1.0
    return [step * n for n in range(math.ceil(low / step - 1e-9), int(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round values between two positive ones for a logarithmic axis: 1, 2, 5, 10, or powers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1.0,) if last - first > 3 else (1.0, 2.0, 5.0)
    values = (10.0**power * factor for power in range(first, last + 1) for factor in factors)
    return [value for value in values if low * 0.999 <= value <= high * 1.001]


def ceiling(highest: float) -> float:
    """A round upper edge for an axis that shows `highest`."""
    if highest <= 0:
        return 1.0
    steps = ticks(highest)
    step = steps[1] - steps[0] if len(steps) > 1 else highest
    return step * math.ceil(highest / step * 0.9999)


def plain(value: float) -> str:
    """A tick label without trailing zeros."""
    return f"{value:.6g}"


def _number(value: object) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
