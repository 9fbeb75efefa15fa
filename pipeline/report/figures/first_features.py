"""The first twenty features as training goes on: quality, utilisation and intensity of each (Nam fig. 7.5)."""

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from tangentscope.pipeline.report.drawing.axes import log_x
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.features import classes, profile, steps, ways
from tangentscope.pipeline.report.view import Kernel, View
from tangentscope.pipeline.store.planned import PlannedRun

_FEATURES = 20
_MOST = 6  # networks
_LEAST = 1e-7  # intensities below that of the first one times this are rounding
_PANELS = {
    "quality": "Quality $Q^*_k$",
    "utilisation": "Utilisation $\\hat{Q}_k$",
    "intensities": "Intensity $\\rho_k/\\rho_1$",
}


def first_features(view: View) -> list[Drawing]:
    """A figure for each of the first networks; empty where none of the three is measured."""
    way = next((kernel for name in _PANELS for kernel in ways(view, name)), None)
    names = [name for name in _PANELS if way in ways(view, name)]
    if way is None:
        return []
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for parts, runs in list(view.networks.items())[:_MOST]:
        there = steps(view, runs, names[0], way)
        if len(there) < 2:
            continue
        heading = ", ".join(["The first features over training", *(part.replace("=", " = ", 1) for part in parts)])
        caption = (
            f"Quality and utilisation (Nam eq. 2.3, 2.5) and intensity of the {_FEATURES} strongest features, in the "
            f"order of their intensity at each step: colour by k, features beyond the C = {classes(runs)} outputs "
            f"dashed. Study {view.name}, means over {len(runs)} seed{'s' * (len(runs) != 1)}; {way}."
        )
        name = file_name("-".join(["first_features", *parts]), taken)
        drawings.append(Drawing(name, heading, caption, _figure(view, runs, names, way, there)))
    return drawings


def _figure(view: View, runs: list[PlannedRun], names: list[str], way: Kernel, there: list[int]) -> Figure:
    colour = colormaps["viridis"].resampled(_FEATURES)
    x = np.array([runs[0].epoch(step) if view.x == "epoch" else step for step in there], dtype=float)
    count = classes(runs)
    with drawing_style():
        figure = Figure(figsize=(FULL_WIDTH, 2.4), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for place, variable in enumerate(names):
            found = [profile(view, runs, variable, way, step) for step in there]
            shown = min([_FEATURES, *(len(values) for values in found if values is not None)])
            table = np.array([np.full(shown, np.nan) if values is None else values[:shown] for values in found])
            if variable == "intensities":
                table[table < _LEAST] = np.nan
                axes[place].set_yscale("log")
            for k in range(shown):
                style = "-" if k < count else "--"
                axes[place].plot(x, table[:, k], style, color=colour(k), linewidth=1.0 if k < count else 0.8)
            axes[place].set_title(f"({chr(ord('a') + place)}) {_PANELS[variable]}", loc="left")
            axes[place].set_xlabel(view.x.capitalize())
        if view.log_x:
            log_x(axes, [x])
        norm = BoundaryNorm(np.arange(0.5, _FEATURES + 1), _FEATURES)
        bar = figure.colorbar(ScalarMappable(norm, colour), ax=list(axes), pad=0.01, ticks=[1, 5, 10, 15, 20])
        bar.set_label("$k$")
        bar.ax.minorticks_off()
    return figure
