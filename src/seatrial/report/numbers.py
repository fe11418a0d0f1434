"""How a number is written in reports: digits that mean something, and its unit."""

from __future__ import annotations

from collections.abc import Callable

MISSING = "\N{EN DASH}"


def significant(value: float) -> str:
    """Three significant digits, never fewer than the whole number."""
    size = abs(value)
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:.{decimals}f}"


def milliseconds(value: float) -> str:
    """``21.5 ms``."""
    return f"{significant(value)} ms"


def named_milliseconds(name: str, value: float) -> str:
    """``infer 21.5 ms``."""
    return f"{name} {milliseconds(value)}"


def seconds(value: float) -> str:
    """``25.0 s``."""
    return f"{significant(value)} s"


def duration(value_s: float) -> str:
    """``45 s``, ``12 min``, ``2 h 05 min``, for times that are estimates."""
    if value_s < 90:
        return f"{value_s:.0f} s"
    minutes = round(value_s / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def date(iso: str) -> str:
    """``2026-11-29 12:01 UTC``, of a time in UTC by ISO 8601."""
    return f"{iso[:16].replace('T', ' ')} UTC"


def per_second(value: float) -> str:
    """``47.6/s``."""
    return f"{significant(value)}/s"


def percent(share: float) -> str:
    """A share of 1 as ``93%``; with a decimal where it is small."""
    value = share * 100
    return f"{value:.0f}%" if abs(value) >= 9.95 or value == 0 else f"{value:.1f}%"


def cores(value: float) -> str:
    """``1.87``."""
    return f"{value:.2f}"


def mebibytes(count: float) -> str:
    """``212 MiB``."""
    return f"{significant(count / 2**20)} MiB"


def kibibytes(count: float) -> str:
    """``158 KiB``."""
    return f"{significant(count / 2**10)} KiB"


def megapixels(value: float) -> str:
    """``0.307 megapixels``."""
    return f"{significant(value)} megapixels"


def core_milliseconds(value_s: float) -> str:
    """CPU time per request: seconds in, ``41.2 ms`` out."""
    return milliseconds(value_s * 1e3)


def times(value: float) -> str:
    """A factor: ``1.9x``."""
    return f"{value:.1f}x"


def noun(count: int, singular: str, plural: str = "") -> str:
    """The noun for a count: ``image`` or ``images``; `plural` where that is not with an s."""
    return singular if count == 1 else plural or f"{singular}s"


def counted(count: int, singular: str, plural: str = "") -> str:
    """``1 image``, ``1,200 images``."""
    return f"{count:,} {noun(count, singular, plural)}"


def sessions(count: int) -> str:
    """``1 session``, ``8 sessions``."""
    return counted(count, "session")


def files(count: int) -> str:
    """``1 image file``, ``3 image files``."""
    return counted(count, "image file")


def optional(value: float | None, form: Callable[[float], str]) -> str:
    """The formatted value, or a dash where there is none."""
    return MISSING if value is None else form(value)
