"""Return, entropy and trace with the places where they begin to rise, in the manner of CV fig. 3c."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.claims.findings import bootstrap_interval
from tangentscope.pipeline.report.drawing.axes import log_x
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.formatting import counted
from tangentscope.pipeline.report.games import (
    Beginning,
    beginning,
    kernel_curve,
    kernels,
    leading_kernel,
    part_labels,
    returns,
)
from tangentscope.pipeline.report.view import EPISODES, View, column
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes.trajectories.curves import running_average

_RETURN = "#222222"
_SHARE = 30  # a running average is over this part of the values; over more it would smear the onset
_VARIABLES = {"entropy": "Entropy $S$ (nats)", "trace": "ln Tr Θ"}


@dataclass(frozen=True)
class _Seed:
    """A run's curves by panel and label, and the onsets of its return and of its entropy."""

    curves: dict[str, dict[str, pd.DataFrame]]
    reward: Beginning | None
    entropy: Beginning | None


def onset(view: View) -> list[Drawing]:
    """Return, entropy (nats) and ln Tr of every part, one figure a network; empty where no games were played."""
    variables = [variable for variable in _VARIABLES if kernels(view, variable)]
    if not variables or EPISODES not in set(view.history["variable"]):
        return []
    taken: set[str] = set()
    return [_drawing(view, list(parts), runs, variables, taken) for parts, runs in view.networks.items()]


def _seed(view: View, run: PlannedRun, variables: list[str]) -> _Seed:
    curves = {"return": {"return": returns(view, run)}}
    for variable in variables:
        labels = part_labels(kernels(view, variable))
        curves[variable] = {label: kernel_curve(view, run, variable, kernel) for kernel, label in labels.items()}
    entropy = kernel_curve(view, run, "entropy", leading_kernel(view, "entropy"))
    return _Seed(curves, beginning(curves["return"]["return"]), beginning(entropy))


def _drawing(view: View, parts: list[str], runs: list[PlannedRun], variables: list[str], taken: set[str]) -> Drawing:
    seeds = [_seed(view, run, variables) for run in runs]
    labels = list(dict.fromkeys(label for variable in variables for label in seeds[0].curves[variable]))
    palette = colours(labels) | {"return": _RETURN}
    leading = leading_kernel(view, "entropy")
    whose = part_labels(kernels(view, "entropy"))[leading] if leading else ""
    with drawing_style():
        figure = Figure(figsize=(0.7 * FULL_WIDTH, 0.7 + 1.55 * (1 + len(variables))), layout="constrained")
        axes: list[Axes] = list(figure.subplots(1 + len(variables), 1, sharex=True))
        for panel, name in zip(axes, ["return", *variables], strict=True):
            panel.set_ylabel(view.score.capitalize() if name == "return" else _VARIABLES[name])
            for seed in seeds:
                for label, curve in seed.curves[name].items():
                    _line(panel, curve, palette[label], 1.3 if len(seeds) == 1 else 0.8)
                _mark(panel, seed.reward, _RETURN)
                _mark(panel, seed.entropy, palette.get(whose))
        axes[-1].set_xlabel(view.x.capitalize())
        if view.log_x:
            log_x(
                axes, [column(curve, "x") for seed in seeds for own in seed.curves.values() for curve in own.values()]
            )
        axes[0].set_title(distance(view, [(seed.reward, seed.entropy) for seed in seeds]), loc="left")
        lines = [Line2D([], [], color=palette[label], linewidth=1.6, label=label) for label in labels]
        axes[1].legend(handles=lines, loc="best", frameon=False)
        found = {
            "return": (_RETURN, [seed.reward for seed in seeds]),
            f"entropy ({whose})": (palette.get(whose), [seed.entropy for seed in seeds]),
        }
        marks = [
            Line2D([], [], color=colour, linestyle="--", linewidth=0.9, label=f"onset of the {what}")
            for what, (colour, own) in found.items()
            if any(own)
        ]
        if marks:
            axes[0].legend(handles=marks, loc="upper left", frameon=False)
        figure.align_ylabels()
    heading = ", ".join(["Onset of learning", *(part.replace("=", " = ", 1) for part in parts)])
    caption = (
        f"The {view.score}, entropy of the tangent kernel's spectrum (CV eq. 9) and its trace (CV eq. 10), after CV "
        "fig. 3c. Faint: every value, seed by seed; strong: running average over a thirtieth of them. Dashed: the last "
        "point before a curve rises by the most (break of “flat, then straight up”); shaded: up to the next point, "
        f"between which it begins. Study {view.name}, {len(runs)} seed{'s' * (len(runs) != 1)}."
    )
    return Drawing(file_name("-".join(["onset", *parts]), taken), heading, caption, figure)


def distance(view: View, onsets: list[tuple[Beginning | None, Beginning | None]]) -> str:
    """How far the onset of the return lies behind that of the entropy, in words, over the seeds that have both."""
    both = [(reward, entropy) for reward, entropy in onsets if reward and entropy]
    if not both:
        found = {"return": [reward for reward, _ in onsets], "entropy": [entropy for _, entropy in onsets]}
        missing = [name for name, own in found.items() if not any(own)]
        return f"No onset of the {' nor of the '.join(missing)}" if missing else "No seed has both onsets"
    apart = [reward.x - entropy.x for reward, entropy in both]
    steps = [float(reward.step - entropy.step) for reward, entropy in both]
    coarse = max(each.coarseness for pair in both for each in pair)
    said = f"Return − entropy: {counted(float(np.mean(apart)))} {view.x}s ({counted(float(np.mean(steps)))} iterations)"
    if len(both) > 1:
        low, high = bootstrap_interval(apart)
        said += f", 95 % {counted(low)} … {counted(high)}"
    if len(onsets) > 1:
        said += f"; {len(both)} of {len(onsets)} seeds"
    return f"{said}\nknown to within {counted(coarse)} {view.x}s"


def _line(panel: Axes, curve: pd.DataFrame, colour: Any, width: float) -> None:
    x, values = column(curve, "x"), column(curve, "value")
    dots = {"marker": "o", "markersize": 1.8} if len(values) <= 30 else {}
    panel.plot(x, values, color=colour, linewidth=0.6, alpha=0.3, **dots)
    window = 2 * max(1, round(len(values) / _SHARE / 2)) + 1
    panel.plot(x, running_average(values, window), color=colour, linewidth=width)


def _mark(panel: Axes, found: Beginning | None, colour: Any) -> None:
    if found is not None:
        panel.axvline(found.x, color=colour, linestyle="--", linewidth=0.9)
        panel.axvspan(found.x, found.next_x, color=colour, alpha=0.12, linewidth=0)
