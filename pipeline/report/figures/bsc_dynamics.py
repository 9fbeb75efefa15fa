"""Trace, adaptation rate and effective rank against the training loss, by size, after BSC figs 1, 5 and 6."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tangentscope.pipeline.report.derived import WINDOW, Scaling, scalings
from tangentscope.pipeline.report.derived.ensembles import curves
from tangentscope.pipeline.report.drawing.at_loss import at_equal_loss, loss_axis
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.figures.bsc_scaling import legend
from tangentscope.pipeline.report.summaries import results_on
from tangentscope.pipeline.report.view import View, value_label
from tangentscope.probes.trajectories.adaptation import adaptation_rate

_MOST = 8  # ensembles with a figure each
_VARIABLES = {"trace": "Trace Tr Θ", "effective_rank_cosine": "Effective rank exp $S$"}
_WHAT = (
    "Trace and effective rank of the cosine-normalised kernel at equal training loss, means over seeds with one "
    f"standard error, and the adaptation rate −d Tr Θ/d ln L of curves averaged over {WINDOW} epochs (BSC eq. 4); "
    "training goes from left to right."
)


def bsc_dynamics(view: View) -> list[Drawing]:
    """A figure for each ensemble: three panels, a colour a size."""
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for scaling in scalings(view)[:_MOST]:
        palette = colours([_plain(size) for size in scaling.ensemble.sizes])
        with drawing_style():
            figure = _draw(view, scaling, palette)
            legend(figure, palette)
        parts = [view.short(scaling.ensemble.field), *scaling.ensemble.others]
        name = file_name("-".join(["bsc_dynamics", *parts]), taken)
        title = ", ".join(["Dynamics at equal loss", *scaling.ensemble.others])
        about = f"After BSC figs 1, 5 and 6. Study {view.name}; colour: {view.short(scaling.ensemble.field)}."
        drawings.append(Drawing(name, title, f"{_WHAT} {about}", figure))
    return drawings


def _draw(view: View, scaling: Scaling, palette: dict[str, Any]) -> Figure:
    split, kernel = results_on(view) or ("test", None)
    figure = Figure(figsize=(FULL_WIDTH, 2.9), layout="constrained")
    trace, rate, rank = figure.subplots(1, 3)
    for size, runs in zip(scaling.ensemble.sizes, scaling.ensemble.runs, strict=True):
        colour = palette[value_label(_plain(size))]
        for panel, variable in ((trace, "trace"), (rank, "effective_rank_cosine")):
            if kernel is None or (found := at_equal_loss(view, runs, split, variable, kernel)) is None:
                continue
            draw_mean(panel, *found, colour)
        if kernel is not None and (ours := curves(view, runs, split, kernel)) is not None:
            found = adaptation_rate(ours.epochs, ours.trace, ours.train, WINDOW)
            rate.plot(np.exp(found.log_loss), found.rate, color=colour, linewidth=1.0)
    for place, (panel, label) in enumerate(
        ((trace, _VARIABLES["trace"]), (rate, "−d Tr Θ/d ln $L$"), (rank, _VARIABLES["effective_rank_cosine"]))
    ):
        panel.set_title(f"({chr(ord('a') + place)})", loc="left")
        panel.set_ylabel(label)
        loss_axis(panel)
    return figure


def draw_mean(panel: Any, losses: np.ndarray, values: np.ndarray, colour: Any) -> None:
    """The mean over runs and one standard error."""
    mean = values.mean(1)
    panel.plot(losses, mean, color=colour, linewidth=1.0)
    if values.shape[1] > 1:
        half = values.std(1, ddof=1) / np.sqrt(values.shape[1])
        panel.fill_between(losses, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)


def _plain(size: float) -> float | int:
    return int(size) if size == int(size) else size
