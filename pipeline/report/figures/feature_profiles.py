"""Which features are useful, used and strong: Π*(k), Π̂(k) and ρ_k/ρ_1 against k, in the manner of Nam ch. 2 and 7."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.drawing.axes import log_ticks
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.features import classes, label, profile, steps, ways
from tangentscope.pipeline.report.view import Kernel, View
from tangentscope.pipeline.store.planned import PlannedRun

_PANELS = {
    "quality_cumulative": "Quality $\\Pi^*(k)$",
    "utilisation_cumulative": "Utilisation $\\hat{\\Pi}(k)$",
    "intensities": "Intensity $\\rho_k/\\rho_1$",
}
_MOST = 12  # networks in one figure, and figures of single ones
_TIMES = 5  # at which a network is shown
_LEAST = 1e-7  # of the strongest intensity; below is rounding in single precision
_WHAT = (
    "Cumulative quality and utilisation (Nam eq. 2.4) and intensities (eq. 1.29) of the last hidden layer's features, "
    "strongest first. Dotted: C, the number of outputs. In parentheses: test score; in brackets: κ, below 0.1 in the "
    "minimum-feature regime. Means over seeds, of intensities geometric ones."
)

_Line = tuple[str, Sequence[PlannedRun], int]  # label, runs and step


def feature_profiles(view: View) -> list[Drawing]:
    """All networks at the end; then, where the study has a few, each at several times. Empty if none is measured."""
    way = next((kernel for name in _PANELS for kernel in ways(view, name)), None)
    names = [name for name in _PANELS if way in ways(view, name)]
    if way is None:
        return []
    there = {parts: (runs, steps(view, runs, names[0], way)) for parts, runs in view.networks.items()}
    there = {parts: found for parts, found in there.items() if found[1]}
    drawings: list[Drawing] = []
    taken: set[str] = set()
    title = "Features: quality, utilisation and intensity"
    if len(there) > 1:
        ends = [(", ".join(parts), runs, found[-1]) for parts, (runs, found) in list(there.items())[:_MOST]]
        drawings.append(_drawing(view, way, names, ends, "feature_profiles", title, "at the end"))
        taken.add("feature_profiles")
    for parts, (runs, found) in there.items() if len(there) <= _MOST else ():
        lines = [(f"{view.x} {_time(view, runs, step)}", runs, step) for step in _spread(found)]
        name = file_name("-".join(["feature_profiles", *parts]), taken)
        heading = ", ".join([title, *(part.replace("=", " = ", 1) for part in parts)])
        drawings.append(_drawing(view, way, names, lines, name, heading, "over training"))
    return drawings


def _spread(found: list[int]) -> list[int]:
    """The first and the last of some steps and others between, evenly spaced."""
    return [found[round(place)] for place in np.unique(np.linspace(0, len(found) - 1, _TIMES).round())]


def _time(view: View, runs: Sequence[PlannedRun], step: int) -> str:
    return f"{runs[0].epoch(step):.3g}" if view.x == "epoch" else f"{step:,}"


def _drawing(
    view: View, way: Kernel, names: Sequence[str], lines: Sequence[_Line], name: str, title: str, when: str
) -> Drawing:
    palette = _palette(lines)
    with drawing_style():
        figure = Figure(figsize=(FULL_WIDTH, 2.3 + 0.16 * -(-len(lines) // 2)), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for place, variable in enumerate(names):
            panel: Axes = axes[place]
            for key, runs, step in lines:
                if (values := profile(view, runs, variable, way, step)) is not None:
                    panel.plot(np.arange(1, len(values) + 1), values, color=palette[key])
            _dress(panel, variable, [runs for _, runs, _ in lines], f"({chr(ord('a') + place)})")
        told = {key: label(view, runs, key, way, step) for key, runs, step in lines}
        handles = [Line2D([], [], color=palette[key], label=told[key]) for key in palette]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    seeds = max(len(runs) for _, runs, _ in lines)
    caption = f"{_WHAT} Study {view.name}, {when}, {seeds} seed{'s' * (seeds != 1)}; {way}."
    return Drawing(name, title, caption, figure)


def _palette(lines: Sequence[_Line]) -> dict[str, Any]:
    """By label; times are ordered, networks are not."""
    keys = [key for key, _, _ in lines]
    if len({id(runs) for _, runs, _ in lines}) > 1:
        return colours(keys)
    ranked = colours(list(range(len(keys))))
    return dict(zip(keys, ranked.values(), strict=True))


def _dress(panel: Axes, variable: str, groups: Sequence[Sequence[PlannedRun]], mark: str) -> None:
    panel.set_title(f"{mark} {_PANELS[variable]}", loc="left")
    panel.set_xlabel("Feature $k$")
    panel.set_xscale("log")
    for count in {classes(runs) for runs in groups}:
        panel.axvline(count, color="#777777", linestyle=":", linewidth=0.8, zorder=0)
    if variable == "intensities":
        panel.set_yscale("log")
        shown = [
            np.asarray(line.get_ydata(), dtype=float) for line in panel.lines if len(np.ravel(line.get_xdata())) > 2
        ]
        least = min((values[values > 0].min() for values in shown if (values > 0).any()), default=_LEAST)
        panel.set_ylim(max(least, _LEAST) / 1.5, 1.5)
    else:
        panel.set_ylim(-0.02, 1.04)
    low, high = panel.get_xlim()
    log_ticks(panel.xaxis, low, high)
