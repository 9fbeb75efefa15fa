"""Entropy against trace: the way that training goes through CV's two collective variables."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tangentscope.pipeline.report.drawing.axes import log_ticks
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.facets import Facet, facets, file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.drawing.lines import Curves
from tangentscope.pipeline.report.drawing.panels import legend, setting
from tangentscope.pipeline.report.view import SPLITS, View

_MOST = 8  # figures
_WHAT = (
    "Entropy of the tangent kernel's spectrum (CV eq. 9) against its trace (CV eq. 10) as training goes on: from the "
    "open circle at initialisation to the filled one at the end. Strong: mean over seeds; faint: single seeds."
)

_Ways = dict[str, tuple[Curves, Curves]]  # entropy and trace by the label of their colour


def phase_portrait(view: View) -> list[Drawing]:
    """S (nats) against Tr Θ, a panel a split, a colour a value of the varied field; empty if either is not measured."""
    if not (view.kernels("entropy") and view.kernels("trace")):
        return []
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for facet in facets(view, ["entropy"])[:_MOST]:
        panels = {split: _ways(view, facet, split) for split in SPLITS}
        panels = {split: ways for split, ways in panels.items() if ways}
        if not panels:
            continue
        palette = colours([run.varied[facet.field] for run in view.runs] if facet.field else [""])
        with drawing_style():
            figure = Figure(figsize=(0.25 * FULL_WIDTH + 0.375 * FULL_WIDTH * len(panels), 3.2), layout="constrained")
            axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
            for place, (split, ways) in enumerate(panels.items()):
                _draw(axes[place], ways, palette)
                axes[place].set_title(f"({chr(ord('a') + place)}) {split}", loc="left")
                axes[place].set_xlabel("Trace Tr Θ")
            axes[0].set_ylabel("Entropy $S$ (nats)")
            legend(figure, view, facet, palette)
        heading = ", ".join(["Entropy against trace", *(part.replace("=", " = ", 1) for part in facet.parts)])
        name = file_name("-".join(["phase_portrait", *facet.parts]), taken)
        drawings.append(Drawing(name, heading, f"{_WHAT} {setting(view, facet)}", figure))
    return drawings


def _ways(view: View, facet: Facet, split: str) -> _Ways:
    found: _Ways = {}
    for label, runs in facet.groups.items():
        both = [[view.curve(run, split, name, facet.kernel) for name in ("entropy", "trace")] for run in runs]
        pairs = [pair for pair in both if all(np.isfinite(curve["value"].astype(float)).any() for curve in pair)]
        entropy, trace = (Curves.of(pair[place] for pair in pairs) for place in (0, 1))
        if entropy and trace and entropy.values.shape == trace.values.shape:
            found[label] = entropy, trace
    return found


def _draw(panel: Axes, ways: _Ways, palette: dict[str, Any]) -> None:
    for label in (label for label in palette if label in ways):
        entropy, trace = (curves.values for curves in ways[label])
        colour = palette[label]
        if entropy.shape[1] > 1:
            panel.plot(trace, entropy, color=colour, linewidth=0.5, alpha=0.25)
        x, y = trace.mean(axis=1), entropy.mean(axis=1)  # a step that a seed lacks is a gap
        panel.plot(x, y, color=colour, linewidth=1.3)
        there = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        if there.size:
            for place, fill in ((there[0], "white"), (there[-1], colour)):
                panel.plot(x[place], y[place], marker="o", markersize=4, color=colour, markerfacecolor=fill, zorder=3)
    every = np.concatenate([trace.values.ravel() for _, trace in ways.values()])
    positive = every[np.isfinite(every)]
    if positive.size and positive.min() > 0 and positive.max() > 10 * positive.min():
        panel.set_xscale("log")
        log_ticks(panel.xaxis, *panel.get_xlim())
