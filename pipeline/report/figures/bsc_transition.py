"""Where the effective rank saturates and the trace ratio begins to decline, by width, after BSC fig. 3."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tangentscope.pipeline.report.derived import Scaling, scalings
from tangentscope.pipeline.report.derived.scaling import RANK, RATIO
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.figures.bsc_scaling import draw_quantity, settle
from tangentscope.pipeline.report.formatting import number
from tangentscope.pipeline.report.view import View
from tangentscope.probes.trajectories.break_point import BrokenPowerLaw

_MOST = 6  # ensembles side by side
_COLOURS = {RANK: "#0072b2", RATIO: "#d55e00"}
_LABELS = {RANK: "Effective rank exp $S$", RATIO: "Trace ratio"}
_WHAT = (
    "Effective rank of the cosine-normalised kernel and trace ratio (Tr Θ* − Tr Θ₀)/Tr Θ₀ (BSC eq. 5) at the least "
    "test loss: means over seeds with one standard error; smoothly broken power laws, and where they break with 95 % "
    "intervals by bootstrap over seeds. Without such a line there is no break in range."
)


def bsc_transition(view: View) -> list[Drawing]:
    """Two rows, rank and trace ratio; a column for each ensemble of widths."""
    ours = [one for one in scalings(view) if one.breaks][:_MOST]
    if not ours:
        return []
    with drawing_style():
        width = FULL_WIDTH if len(ours) > 1 else 0.55 * FULL_WIDTH
        figure = Figure(figsize=(width, 4.4), layout="constrained")
        axes = figure.subplots(2, len(ours), sharex=True, squeeze=False)
        for column, scaling in enumerate(ours):
            for row, quantity in enumerate((RANK, RATIO)):
                panel = axes[row, column]
                panel.set(xscale="log", yscale="log")
                _draw(panel, scaling, quantity)
                if not row:
                    panel.set_title(f"({chr(ord('a') + column)}) {scaling.ensemble.label}", loc="left", wrap=True)
                else:
                    panel.set_xlabel("Width")
                if not column:
                    panel.set_ylabel(_LABELS[quantity])
                settle(panel)
    caption = f"{_WHAT} After BSC fig. 3. Study {view.name}, {len(ours[0].ensemble.members)} members of each ensemble."
    return [Drawing("bsc_transition", "Transition from features to kernels", caption, figure)]


def _draw(panel: Axes, scaling: Scaling, quantity: str) -> None:
    colour = _COLOURS[quantity]
    broken = scaling.breaks.get(quantity)
    if isinstance(broken, BrokenPowerLaw):
        sizes = np.geomspace(scaling.ensemble.sizes[0], scaling.ensemble.sizes[-1], 100)
        panel.plot(sizes, broken(sizes), color=colour, linewidth=1.0)
        panel.axvline(broken.place.value, color=colour, linewidth=0.8, linestyle=":")
        if np.isfinite([broken.place.low, broken.place.high]).all():
            panel.axvspan(broken.place.low, broken.place.high, color=colour, alpha=0.12, linewidth=0)
        told = f"break {number(broken.place.value, 3)}"
        panel.text(0.03, 0.95, told, transform=panel.transAxes, va="top", fontsize=7, color=colour)
        scaling = replace(scaling, laws={})  # points alone: the line is drawn
    draw_quantity(panel, scaling, quantity, colour)
