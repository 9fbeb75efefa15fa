"""Collective variables and loss of one system a row, raw and smoothed, in the manner of CV fig. 3."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.drawing.axes import log_x, log_y
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.drawing.lines import Curves, spans_a_decade
from tangentscope.pipeline.report.drawing.panels import Column
from tangentscope.pipeline.report.view import SPLITS, Kernel, View, value_label
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes.trajectories.curves import running_average as averaged

_COLOURS = {"test": "#d55e00", "train": "#0072b2"}  # Okabe and Ito (2008)
_WIDTHS = {"test": 2.4, "train": 1.2}  # the first is seen below the second where they agree
_SHARE = 10  # a running average is over this part of the values
_MOST = 8  # rows
_WINDOW = "Faint: every value measured, seed by seed; strong: running average of their mean over a tenth of the values."

_COLUMNS = [
    Column("entropy", "Entropy", "Entropy $S$ (nats)"),
    Column("trace", "Trace", "Trace Tr Θ", log=True),
    Column("loss", "Loss", "Loss", kernel=False, log=True),
]

_Panel = dict[str, Curves]  # by split


def running_average(view: View) -> list[Drawing]:
    """Entropy (nats), trace and loss, a row per network and kernel, on train and test data in two colours.

    Without a loss, as in reinforcement learning, the score stands in its place. Empty if the study measures neither
    entropy nor trace, or nothing of them is measured yet.
    """
    columns = [column for column in _COLUMNS if not column.kernel or view.kernels(column.variable)]
    if "loss" not in set(view.history["variable"]):
        columns[-1] = replace(columns[-1], variable="score", title=view.score.capitalize(), label=view.score, log=False)
    rows = {title: panels for title, panels in _rows(view, columns).items() if _any(panels[:-1])}
    if not rows:
        return []
    with drawing_style():
        figure = _draw(view, columns, dict(list(rows.items())[:_MOST]))
    seeds = len({run.seed for run in view.runs})
    taken = dict.fromkeys(str(kernel) for column in columns[:-1] for kernel in view.kernels(column.variable))
    caption = (
        "Entropy of the tangent kernel's spectrum (CV eq. 9), its trace (CV eq. 10) and the "
        f"{columns[-1].title.lower()}, after CV fig. 3. {_WINDOW} Study {view.name}, {seeds} seed{'s' * (seeds != 1)}; "
        f"kernel: {'; '.join(taken)}."
    )
    if len(rows) > _MOST:
        caption += f" Shown: the first {_MOST} of {len(rows)} networks; the tables hold all."
    return [Drawing("running_average", "Running averages", caption, figure)]


def _any(panels: list[_Panel]) -> bool:
    return any(curves for panel in panels for curves in panel.values())


def _rows(view: View, columns: list[Column]) -> dict[str, list[_Panel]]:
    """The curves of each panel by what sets its row apart."""
    networks: dict[str, list[PlannedRun]] = {}
    for run in view.runs:
        varied = [f"{view.short(field)} = {value_label(run.varied[field])}" for field in view.varied]
        networks.setdefault(", ".join(varied), []).append(run)
    kernels = list(dict.fromkeys(kernel for column in columns[:-1] for kernel in view.kernels(column.variable)))
    return {
        ", ".join(filter(None, [title, str(kernel) if len(kernels) > 1 else ""])): [
            _panel(view, runs, column, kernel if column.kernel else None) for column in columns
        ]
        for title, runs in networks.items()
        for kernel in kernels
    }


def _panel(view: View, runs: list[PlannedRun], column: Column, kernel: Kernel | None) -> _Panel:
    curves = {split: Curves.of(view.curve(run, split, column.variable, kernel) for run in runs) for split in SPLITS}
    return {split: found for split, found in curves.items() if found}


def _draw(view: View, columns: list[Column], rows: dict[str, list[_Panel]]) -> Figure:
    figure = Figure(figsize=(FULL_WIDTH, 0.55 + 1.75 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), sharex=True, squeeze=False)
    for number, (title, panels) in enumerate(rows.items()):
        for place, (column, own) in enumerate(zip(columns, panels, strict=True)):
            panel: Axes = axes[number, place]
            head = f"({chr(ord('a') + number)}) {title or column.title}" if place == 0 else column.title
            panel.set_title(head.replace("$", r"\$"), loc="left")
            panel.set_ylabel(column.label)
            for split, curves in own.items():
                _lines(panel, curves, _COLOURS[split], _WIDTHS[split])
            if column.log and spans_a_decade(own.values()):
                log_y(panel)
            if not own:
                panel.text(0.5, 0.5, "no values", transform=panel.transAxes, ha="center", va="center", color="#777777")
            if number == len(rows) - 1:
                panel.set_xlabel(view.x.capitalize())
    if view.log_x:
        log_x(axes.flat, [curves.x for panels in rows.values() for panel in panels for curves in panel.values()])
    figure.align_ylabels()
    shown = [split for split in _COLOURS if any(split in panel for panels in rows.values() for panel in panels)]
    handles = [Line2D([], [], color=_COLOURS[split], linewidth=_WIDTHS[split], label=split) for split in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _lines(panel: Axes, curves: Curves, colour: str, width: float) -> None:
    panel.plot(curves.x, curves.values, color=colour, linewidth=0.7, alpha=0.5)
    # A mean over changing sets of seeds would jump where a seed stops.
    complete = np.isfinite(curves.values).all(axis=1)
    mean = np.where(complete, curves.values.mean(axis=1), np.nan)
    panel.plot(curves.x, averaged(mean, window(len(mean))), color=colour, linewidth=width)


def window(count: int) -> int:
    """How many of so many values an average is over: an odd number, three at least."""
    return 2 * max(1, round(count / _SHARE / 2)) + 1
