"""Numbers for people."""

from __future__ import annotations

import math

__all__ = ["NONE", "bases", "counted", "number", "percent", "seconds"]

# Where there is no number.
NONE = "\u2013"
_NARROW = "\u202f"


def counted(count: int, thing: str) -> str:
    """Write a number of things."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def percent(share: float, places: int = 1) -> str:
    """Write a share."""
    return f"{100 * share:.{places}f}{_NARROW}%"


def number(value: float | None, digits: int = 4) -> str:
    """Write a number with so many significant digits."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0 or 1e-3 <= abs(value) < 1e9:
        places = 0 if abs(value) >= 1000 or value == 0 else digits - 1 - _exponent(value)
        return f"{value:,.{max(places, 0)}f}"
    mantissa, exponent = f"{value:.{digits - 2}e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    if float(mantissa).is_integer():
        mantissa = mantissa.partition(".")[0]
    return f"{mantissa} \u00d7 10{raised}".removeprefix("1 \u00d7 ")


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value)))


def bases(value: float) -> str:
    """Write a number of bases."""
    for unit, size in (("Gb", 1e9), ("Mb", 1e6), ("kb", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} b"


def seconds(value: float) -> str:
    """Write a duration."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
