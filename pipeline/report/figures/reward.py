"""Entropy and trace of actor and critic above the return, in the manner of CV fig. 3c."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.drawing.axes import log_x, log_y
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.drawing.lines import DRAWS, MEAN, SEEDS, Curves, draw, spans_a_decade
from tangentscope.pipeline.report.games import part_labels
from tangentscope.pipeline.report.view import Kernel, View
from tangentscope.pipeline.store.planned import PlannedRun

_ROWS = [("entropy", "Entropy $S$ (nats)"), ("trace", "Trace Tr Θ")]
_RETURNS = {"train": "#8a8a8a", "test": "#222222"}
_PLAYED = {"train": "while learning", "test": "evaluation"}

_Lines = dict[str, Curves]  # by the label of their colour


def reward(view: View) -> list[Drawing]:
    """Entropy (nats), trace and return, one figure per network and per split that kernels are of."""
    splits = dict.fromkeys(how.split for how in view.probes.values())
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for parts, runs in view.networks.items():
        returns = {split: _curves(view, runs, split, view.score, None) for split in _RETURNS}
        for split in splits:
            panels = {name: _of_kernels(view, runs, split, name) for name, _ in _ROWS}
            if any(curves for own in panels.values() for curves in own.values()):
                where = [*parts, *([f"split={split}"] if len(splits) > 1 else [])]
                drawings.append(_drawing(view, where, len(runs), panels, returns, taken))
    return drawings


def _of_kernels(view: View, runs: list[PlannedRun], split: str, variable: str) -> _Lines:
    kernels = view.kernels(variable, split)
    labels = part_labels(kernels)
    return {labels[kernel]: _curves(view, runs, split, variable, kernel) for kernel in kernels}


def _curves(view: View, runs: list[PlannedRun], split: str, variable: str, kernel: Kernel | None) -> Curves:
    return Curves.of(view.curve(run, split, variable, kernel) for run in runs)


def _drawing(
    view: View, where: list[str], seeds: int, panels: dict[str, _Lines], returns: _Lines, taken: set[str]
) -> Drawing:
    labels = list(dict.fromkeys(label for own in panels.values() for label in own))
    palette = colours(labels)
    with drawing_style():
        figure = Figure(figsize=(0.6 * FULL_WIDTH, 5.2), layout="constrained")
        axes: list[Axes] = list(figure.subplots(len(_ROWS) + 1, 1, sharex=True))
        used: set[str] = set()
        for panel, (name, label) in zip(axes, _ROWS, strict=False):
            panel.set_ylabel(label)
            for kernel, curves in panels[name].items():
                used |= draw(panel, curves, palette[kernel])
            if name == "trace" and spans_a_decade(panels[name].values()):
                log_y(panel)
        _legend(axes[0], {label: palette[label] for label in labels})
        last = axes[-1]
        for split, curves in returns.items():
            used |= draw(last, curves, _RETURNS[split])
        last.set_ylabel(view.score.capitalize())
        last.set_xlabel(view.x.capitalize())
        _legend(last, {_PLAYED[split]: colour for split, colour in _RETURNS.items() if returns[split]})
        if view.log_x:
            log_x(axes, [curves.x for own in (*panels.values(), returns) for curves in own.values()])
        figure.align_ylabels()
    notes = [note for note in (MEAN, DRAWS, SEEDS) if note in used]
    what = f"Entropy of the tangent kernel's spectrum (CV eq. 9), its trace (CV eq. 10) and the {view.score}, after CV "
    what += "fig. 3c."
    setting = f"Study {view.name}, {seeds} seed{'s' * (seeds != 1)}{''.join(f', {part}' for part in where)}."
    heading = ", ".join(["Kernels and return", *(part.replace("=", " = ", 1) for part in where)])
    return Drawing(file_name("-".join(["reward", *where]), taken), heading, " ".join([what, setting, *notes]), figure)


def _legend(panel: Axes, lines: dict[str, Any]) -> None:
    if lines:
        handles = [Line2D([], [], color=colour, linewidth=1.6, label=label) for label, colour in lines.items()]
        panel.legend(handles=handles, loc="best", frameon=False)
