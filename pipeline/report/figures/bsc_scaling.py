"""What networks come to against their width, or the data they learn from, with power laws, after BSC fig. 2."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.derived import Scaling, scalings
from tangentscope.pipeline.report.derived.scaling import LOSS, RANK, RATE, START
from tangentscope.pipeline.report.drawing.axes import log_ticks
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.view import View

_PANELS = {
    LOSS: ("Test loss at its least", "loss (nats)"),
    RANK: ("Effective rank there", "exp $S$"),
    START: ("Trace at initialisation", "Tr Θ$_0$"),
    RATE: ("Adaptation rate at the least test loss", "−d Tr Θ/d ln $L$"),
}
_WHAT = (
    "The effective rank is the cosine-normalised kernel's (BSC App. B.3). Means over seeds with one standard error (of "
    "the adaptation rate by jackknife), and power laws where one describes them within a tenth or two standard errors. "
    "The table of power laws has exponents and their intervals."
)


def bsc_scaling(view: View) -> list[Drawing]:
    """Least test loss, effective rank, initial trace and adaptation rate against each size that is varied."""
    drawings: list[Drawing] = []
    found = scalings(view)
    for field in dict.fromkeys(one.ensemble.field for one in found):
        ours = [one for one in found if one.ensemble.field == field]
        labels = [one.ensemble.label for one in ours]
        palette = colours(labels)
        size = "Width" if ours[0].ensemble.by_width else "Training points"
        with drawing_style():
            figure = Figure(figsize=(FULL_WIDTH, 4.6), layout="constrained")
            for place, (quantity, (title, label)) in enumerate(_PANELS.items()):
                panel = figure.add_subplot(2, 2, place + 1)
                panel.set_title(f"({chr(ord('a') + place)}) {title}", loc="left")
                panel.set(xlabel=size, ylabel=label, xscale="log", yscale="log")
                for one in ours:
                    draw_quantity(panel, one, quantity, palette[one.ensemble.label])
                settle(panel)
            if len(palette) > 1:
                legend(figure, palette)
        name = "bsc_scaling" + ("" if len({one.ensemble.field for one in found}) == 1 else f"-{view.short(field)}")
        seeds = max(len(one.ensemble.members) for one in ours)
        caption = f"{_WHAT} After BSC fig. 2. Study {view.name}, {seeds} members of each ensemble."
        drawings.append(Drawing(name, f"Scaling with {size.lower()}", caption, figure))
    return drawings


def draw_quantity(panel: Axes, scaling: Scaling, quantity: str, colour: Any) -> None:
    """Means and standard errors of a quantity, and its power law."""
    values = scaling.values.get(quantity)
    if values is None:
        return
    sizes = scaling.ensemble.sizes
    mean, error = _mean(values) if quantity != RATE else (values[0], scaling.spread)
    panel.errorbar(sizes, mean, yerr=error, color=colour, fmt="o", markersize=3, linewidth=0.8, capsize=1.5)
    law = scaling.laws.get(quantity)
    if law is not None and not isinstance(law, str):
        ends = np.array([law.first, law.last])
        panel.plot(ends, law(ends), color=colour, linewidth=1.0)


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the members that have a number, as the fits take them: geometric means, and their standard errors."""
    good = np.isfinite(values) & (values > 0)
    logs = np.where(good, np.log(np.where(good, values, 1.0)), np.nan)
    count = good.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(logs, 0) / np.where(count == 0, np.nan, count)
        spread = np.sqrt(np.nansum((logs - mean) ** 2, 0) / np.where(count > 1, count - 1, np.nan) / count)
    return np.exp(mean), np.exp(mean) * np.nan_to_num(spread)


def settle(panel: Axes) -> None:
    """Plain numbers at the ticks, once everything is drawn; said so if nothing is."""
    if not panel.has_data():
        panel.text(0.5, 0.5, "no values", transform=panel.transAxes, ha="center", va="center", color="#777777")
        return
    log_ticks(panel.xaxis, *panel.get_xlim())
    log_ticks(panel.yaxis, *panel.get_ylim())


def legend(figure: Figure, palette: dict[str, Any], labels: Sequence[str] | None = None) -> None:
    """The colours below a figure."""
    shown = list(palette) if labels is None else labels
    handles = [Line2D([], [], color=palette[label], linewidth=1.6, label=label) for label in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
