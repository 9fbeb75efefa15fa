"""Numbers as a reader wants them: four significant digits, SI units. "–" says that there is no number."""

import math
from datetime import UTC, datetime

ABSENT = "–"
NBSP = "\u00a0"  # between a number and its unit, where no line may break
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits; integers in full, very large and small ones with a power of ten."""
    if value is None:
        return ABSENT
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'−' if value < 0 else ''}∞"
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}".replace("-", "−")
    if not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}{NBSP}×{NBSP}10{str(int(exponent)).translate(_SUPERSCRIPT)}".replace("-", "−")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace("-", "−")


def counted(value: float) -> str:
    """A count, or a mean of counts: without decimals if it has none, else with three significant digits."""
    return number(int(value) if float(value).is_integer() else value, 3)


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them, from µs to days."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 1:
        factor, unit = (1e3, "ms") if seconds >= 1e-3 or seconds == 0 else (1e6, "µs")
        return f"{seconds * factor:.3g}{NBSP}{unit}"
    if seconds < 100:
        return f"{seconds:.3g}{NBSP}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{int(seconds // 60)}{NBSP}min{NBSP}{int(seconds % 60)}{NBSP}s"
    if minutes < 2880:
        return f"{minutes // 60}{NBSP}h{NBSP}{minutes % 60}{NBSP}min"
    return f"{seconds / 86400:.3g}{NBSP}days"


def milliseconds(seconds: float | None) -> str:
    """Seconds as a plain number of milliseconds, for a column that names the unit."""
    return ABSENT if seconds is None or not math.isfinite(seconds) else number(seconds * 1e3, 3)


def size(count: float | None) -> str:
    """Bytes with an SI prefix."""
    if count is None or not math.isfinite(count):
        return ABSENT
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 999.5:
            return f"{count:.3g}{NBSP}{unit}"
        count /= 1000
    return f"{count:.3g}{NBSP}PB"


def percent(share: float | None) -> str:
    """A share as a percentage with three significant digits."""
    return ABSENT if share is None or not math.isfinite(share) else f"{number(share * 100, 3)}{NBSP}%"


def moment(unix: float | None) -> str:
    """Seconds since 1970 as date and time in UTC."""
    return ABSENT if unix is None else datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M UTC")


FILTERS = {
    "number": number,
    "duration": duration,
    "milliseconds": milliseconds,
    "size": size,
    "percent": percent,
    "moment": moment,
}
