"""Logarithmic axes with plain numbers at their ticks, and with room for the start of training on the x axis."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, Formatter, LogLocator, NullFormatter


def log_y(panel: Axes) -> None:
    """Logarithmic y axis; over fewer than three decades with ticks at 2 and 5 too."""
    panel.set_yscale("log")
    log_ticks(panel.yaxis, *panel.get_ylim())


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Plain numbers at the ticks of a logarithmic axis from `low` to `high`."""
    if high < 300 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 60 * low else (1, 3)))
    plain_ticks(axis)


def plain_ticks(axis: Axis) -> None:
    """Plain numbers at the major ticks, without a factor at the end of the axis; none at the minor ones."""
    axis.set_major_formatter(_Plain())
    axis.set_minor_formatter(NullFormatter())


def log_x(panels: Iterable[Axes], positions: Iterable[np.ndarray]) -> None:
    """Logarithmic x axes from the first position after the start on; the start itself, 0, stands left of it."""
    x = np.concatenate([np.empty(0), *positions])
    positive = x[x > 0]
    if not positive.size or positive.min() == positive.max():
        return
    first, last = positive.min(), positive.max()
    decades = [10.0**power for power in range(math.ceil(math.log10(first)), math.floor(math.log10(last)) + 1)]
    if len(decades) < 2:
        decades = [first, last]
    between = [digit * 10.0**power for power in range(-9, 12) for digit in range(2, 10)]
    start = [0.0] if (x == 0).any() else []
    # Too many decades for a narrow panel: every second one, the last among them.
    every = 1 + (len(decades) - 1) // 5
    for panel in panels:
        panel.set_xscale("symlog", linthresh=first, linscale=0.5)
        panel.xaxis.set_major_locator(FixedLocator(start + decades[::-1][::every][::-1]))
        panel.xaxis.set_minor_locator(FixedLocator([tick for tick in between if first <= tick <= last]))
        panel.xaxis.set_major_formatter(_Plain())
        panel.set_xlim(-0.15 * first if start else 0.9 * first, last * 1.15)


class _Plain(Formatter):
    """Plain numbers where all of an axis are short, else powers of ten; never both on one axis."""

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        if all(value == 0 or 1e-3 <= value < 1e5 for value in values):
            return [f"{value:,.6g}" for value in values]
        return [_power(value) for value in values]


def _power(value: float) -> str:
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(value) + 1e-9)
    lead = value / 10.0**exponent
    return f"$10^{{{exponent}}}$" if abs(lead - 1) < 1e-6 else f"${lead:.2g}\\cdot 10^{{{exponent}}}$"
