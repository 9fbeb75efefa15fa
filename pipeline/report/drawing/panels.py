"""Panels of curves: one column per variable, one row per split, one colour per value of a varied field."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.drawing.axes import log_x, log_y
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.facets import Facet, facets, file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.drawing.lines import DRAWS, MEAN, SEEDS, Curves, draw, spans_a_decade
from tangentscope.pipeline.report.view import SPLITS, View
from tangentscope.pipeline.store.planned import PlannedRun

_MOST = 8  # figures of one kind; a grid over three fields would bury the report
_LONGEST = 32  # values in a legend; of more every so many-th
_WIDTH = {1: 0.5, 2: 0.75, 3: 1.0}  # of the full width, by number of columns


@dataclass(frozen=True)
class Column:
    """A variable's column of panels.

    Attributes:
        variable: Its name in the measurements, or in the history if `kernel` is False.
        title, label: Above the panels, and along the y axis with the unit.
        log: The y axis is logarithmic if the values span more than a decade.
        shared: All splits have the same y range.
    """

    variable: str
    title: str
    label: str
    kernel: bool = True
    log: bool = False
    shared: bool = False


_Panels = dict[tuple[str, Column], dict[str, Curves]]


def draw_panels(view: View, name: str, title: str, what: str, columns: Sequence[Column]) -> list[Drawing]:
    """One drawing per facet: per field varied alone, or per combination of the varied fields beyond the first.

    Empty if the kernel's variables among `columns` are not in the plan, or nothing of them was measured.
    """
    columns = [column for column in columns if not column.kernel or view.kernels(column.variable)]
    there = facets(view, [column.variable for column in columns if column.kernel])
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for facet in there[:_MOST]:
        panels = _panels(view, facet, columns)
        palette = colours([run.varied[facet.field] for run in view.runs] if facet.field else [""])
        with drawing_style():
            figure, used = _draw(view, facet, panels, palette)
        notes = [note for note in (MEAN, DRAWS, SEEDS) if note in used]
        if len(there) > _MOST:
            notes.append(f"Shown: the first {_MOST} of {len(there)} combinations; the tables hold all.")
        caption = " ".join([what, setting(view, facet), *notes])
        heading = ", ".join([title, *(part.replace("=", " = ", 1) for part in facet.parts)])
        drawings.append(Drawing(file_name("-".join([name, *facet.parts]), taken), heading, caption, figure))
    return drawings


def _panels(view: View, facet: Facet, columns: Sequence[Column]) -> _Panels:
    """The curves of every panel, by split (those with any values) and column, then by the label of their colour."""

    def group(runs: list[PlannedRun], split: str, column: Column) -> Curves:
        kernel = facet.kernel if column.kernel else None
        return Curves.of(view.curve(run, split, column.variable, kernel) for run in runs)

    panels = {
        (split, column): {label: group(runs, split, column) for label, runs in facet.groups.items()}
        for split in SPLITS
        for column in columns
    }
    splits = {split for (split, _), own in panels.items() if any(own.values())}
    return {(split, column): own for (split, column), own in panels.items() if split in splits}


def _draw(view: View, facet: Facet, panels: _Panels, palette: dict[str, Any]) -> tuple[Figure, set[str]]:
    """The figure, and the notes on how seeds and draws are shown in it."""
    splits = list(dict.fromkeys(split for split, _ in panels))
    columns = list(dict.fromkeys(column for _, column in panels))
    figure = Figure(figsize=(_WIDTH[len(columns)] * FULL_WIDTH, 0.6 + 1.75 * max(1, len(splits))), layout="constrained")
    axes = figure.subplots(max(1, len(splits)), len(columns), sharex=True, squeeze=False)
    used: set[str] = set()
    for number, ((split, column), own) in enumerate(panels.items()):
        row, place = divmod(number, len(columns))
        panel: Axes = axes[row, place]
        if column.shared and row:
            panel.sharey(axes[0, place])
        panel.set_title(f"({chr(ord('a') + number)}) {column.title}, {split}", loc="left")
        panel.set_ylabel(column.label)
        if row == len(splits) - 1:
            panel.set_xlabel(view.x.capitalize())
        for label in (label for label in palette if label in own):
            used |= draw(panel, own[label], palette[label])
        if not any(own.values()):
            panel.text(0.5, 0.5, "no values", transform=panel.transAxes, ha="center", va="center", color="#777777")
        alike = [panels[other, column] for other in splits] if column.shared else [own]
        if column.log and spans_a_decade(curves for groups in alike for curves in groups.values()):
            log_y(panel)
    if view.log_x:
        log_x(axes.flat, [curves.x for own in panels.values() for curves in own.values()])
    figure.align_ylabels()
    legend(figure, view, facet, palette)
    return figure, used


def legend(figure: Figure, view: View, facet: Facet, palette: dict[str, Any]) -> None:
    """The colours of a figure below it, if there are several."""
    labels = [label for label in palette if label in facet.groups]
    if facet.field is None or len(palette) < 2 or not labels:
        return
    every = -(-len(labels) // _LONGEST)
    labels = labels[::every]
    handles = [Line2D([], [], color=palette[label], linewidth=1.6, label=_plain(label)) for label in labels]
    longest = max(len(_plain(label)) for label in labels)
    fitting = max(1, int(figure.get_figwidth() * 13 / (longest + 6)))
    columns = math.ceil(len(labels) / math.ceil(len(labels) / fitting))
    title = _plain(view.short(facet.field))
    figure.legend(handles=handles, title=title, loc="outside lower center", ncols=columns, frameon=False)


def setting(view: View, facet: Facet) -> str:
    """Study, seeds and kernel of a figure, for its caption."""
    seeds = len({run.seed for run in facet.runs})
    by = f" Colour: {view.short(facet.field)}." if facet.field else ""
    fixed = f" At {', '.join(facet.parts)}." if facet.parts else ""
    return f"Study {view.name}, {seeds} seed{'s' * (seeds != 1)}; kernel: {facet.kernel}.{by}{fixed}"


def _plain(text: str) -> str:
    """Text that matplotlib draws as it is: no mathematics, no entry that a legend hides, no line without end."""
    text = text if len(text) <= 40 else text[:39] + "…"
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
