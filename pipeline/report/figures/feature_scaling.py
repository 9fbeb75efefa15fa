"""Test error, test loss and κ at the end of training against what a study varies (Nam fig. 7.1a, 7.2)."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.drawing.axes import log_ticks
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.features import at, ways
from tangentscope.pipeline.report.view import Kernel, View, column, value_label
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes.variables.features.kappa_cka import MINIMUM_FEATURE

_SCORES = ("accuracy",)  # whose error is one less
_FEWEST = 3  # values that make a line


def feature_scaling(view: View) -> list[Drawing]:
    """A figure for each number that is varied; empty where there is none or κ is not measured."""
    way = next(iter(ways(view, "kappa_cka")), None)
    if way is None:
        return []
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for field in view.varied:
        groups = _groups(view, field)
        if not groups or not all(type(run.varied[field]) in (int, float) for run in view.runs):
            continue
        short = view.short(field)
        caption = (
            f"At the end of training, against {short}: what the test set says, and κ (Nam eq. 2.8–2.9), below 0.1 "
            f"(dotted) in the minimum-feature regime. Points: single seeds; lines: means. Study {view.name}; {way}."
        )
        name = file_name(f"feature_scaling-{short}", taken)
        drawings.append(Drawing(name, f"Test error and κ against {short}", caption, _figure(view, field, groups, way)))
    return drawings


def _groups(view: View, field: str) -> dict[str, list[PlannedRun]]:
    """The runs that agree in whatever else is varied, where they make a line."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in view.runs:
        others = [f"{view.short(f)}={value_label(run.varied[f])}" for f in view.varied if f != field]
        groups.setdefault(", ".join(others), []).append(run)
    return {key: runs for key, runs in groups.items() if len({run.varied[field] for run in runs}) >= _FEWEST}


def _figure(view: View, field: str, groups: dict[str, list[PlannedRun]], way: Kernel) -> Figure:
    palette = colours(list(groups))
    error = view.score in _SCORES
    titles = [f"Test error (1 − {view.score})" if error else f"Test {view.score}", "Test loss", "$\\kappa$"]
    with drawing_style():
        figure = Figure(figsize=(FULL_WIDTH, 2.4 + 0.16 * (len(groups) > 1)), layout="constrained")
        axes = figure.subplots(1, 3)
        for place, title in enumerate(titles):
            for key, runs in groups.items():
                _points(
                    axes[place], field, [(run, _numbers(view, run, way, error)[place]) for run in runs], palette[key]
                )
            axes[place].set_title(f"({chr(ord('a') + place)}) {title}", loc="left")
            axes[place].set_xlabel(view.short(field))
            _scale(axes[place], [run.varied[field] for runs in groups.values() for run in runs])
        axes[2].axhline(MINIMUM_FEATURE, color="#777777", linestyle=":", linewidth=0.8)
        if len(groups) > 1:
            handles = [Line2D([], [], color=colour, label=key) for key, colour in palette.items()]
            figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _numbers(view: View, run: PlannedRun, way: Kernel, error: bool) -> list[float]:
    score, loss = (_last(view, run, name) for name in ("score", "loss"))
    return [1 - score if error else score, loss, at(view, [run], "kappa_cka", way, run.steps)]


def _last(view: View, run: PlannedRun, variable: str) -> float:
    values = column(view.curve(run, "test", variable, None), "value")
    return float(values[-1]) if values.size else np.nan


def _points(panel: Axes, field: str, numbers: list[tuple[PlannedRun, float]], colour: Any) -> None:
    x = np.array([run.varied[field] for run, _ in numbers], dtype=float)
    y = np.array([value for _, value in numbers])
    panel.plot(x, y, "o", color=colour, markersize=2.5, alpha=0.5)
    places = np.unique(x)
    panel.plot(places, [y[x == place].mean() for place in places], color=colour)


def _scale(panel: Axes, values: list[float]) -> None:
    """Logarithmic axes where all numbers are above 0; of others that include 0 the x axis is linear below the least."""
    positive = [value for value in values if value > 0]
    if len(positive) == len(values):
        panel.set_xscale("log")
        log_ticks(panel.xaxis, *panel.get_xlim())
    elif positive and min(values) == 0:
        panel.set_xscale("symlog", linthresh=min(positive))
        panel.set_xticks(sorted({0.0, *positive}), [f"{value:g}" for value in sorted({0.0, *positive})])
        panel.minorticks_off()
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in panel.lines])
    if (drawn[np.isfinite(drawn)] > 0).all() and np.isfinite(drawn).any():
        panel.set_yscale("log")
        log_ticks(panel.yaxis, *panel.get_ylim())
