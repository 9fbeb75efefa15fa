"""Collective variables and loss over two varied numbers, before and after training, in the manner of CV fig. 2."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from tangentscope.pipeline.report.drawing.axes import log_ticks, plain_ticks
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.drawing.panels import Column
from tangentscope.pipeline.report.view import SPLITS, Kernel, View, column, value_label
from tangentscope.pipeline.store.planned import PlannedRun

_COLUMNS = [
    Column("entropy", "Entropy", "$S$ (nats)"),
    Column("trace", "Trace", "Tr Θ", log=True),
    Column("loss", "Loss", "loss", kernel=False, log=True),
]
_MOST = 8  # figures
_MANY = 4  # few enough that a tick or two of 1, 2, 5 lies between


def heat_maps(view: View) -> list[Drawing]:
    """Entropy (nats), trace and loss as colours over the first two varied fields that are numbers.

    One drawing per split and combination of the other varied fields; a cell is the mean over seeds. Empty unless two
    fields are varied together in numbers, and something of entropy or trace is measured.
    """
    numeric = [field for field in view.varied if all(_is_number(run.varied[field]) for run in view.runs)][:2]
    columns = [column for column in _COLUMNS if not column.kernel or view.kernels(column.variable)]
    if len(numeric) < 2 or len(columns) < 2:
        return []
    others = [field for field in view.varied if field not in numeric]
    groups: dict[tuple[str, ...], list[PlannedRun]] = {}
    for run in view.runs:
        groups.setdefault(tuple(value_label(run.varied[field]) for field in others), []).append(run)
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for labels, runs in groups.items():
        for split in SPLITS:
            parts = [f"{view.short(field)}={label}" for field, label in zip(others, labels, strict=True)]
            maps = {one: _maps(view, runs, split, one, numeric) for one in columns}
            measured = any(np.isfinite(ends).any() for one, ends in maps.items() if one.kernel)
            if not measured or len(drawings) == _MOST:
                continue
            with drawing_style():
                figure = _draw(view, maps, runs, numeric)
            name = file_name("-".join(["heat_maps", *parts, split]), taken)
            heading = ", ".join(["Start and end of training", *(part.replace("=", " = ", 1) for part in parts), split])
            drawings.append(Drawing(name, heading, _caption(view, runs, split, parts), figure))
    return drawings


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _maps(view: View, runs: list[PlannedRun], split: str, what: Column, fields: Sequence[str]) -> np.ndarray:
    """Means over seeds [2, values of the second field, values of the first], at step 0 and the last; NaN: no value."""
    kernels = view.kernels(what.variable) if what.kernel else [None]
    kernel: Kernel | None = kernels[0] if kernels else None
    across, up = (_values(runs, field) for field in fields)
    cells: dict[tuple[int, int, int], list[float]] = {}
    for run in runs:
        curve = view.curve(run, split, what.variable, kernel)
        found = dict(zip(curve["step"], column(curve, "value"), strict=True))
        place = up.index(run.varied[fields[1]]), across.index(run.varied[fields[0]])
        for end, step in enumerate((0, run.steps)):
            cells.setdefault((end, *place), []).append(found.get(step, np.nan))
    maps = np.full((2, len(up), len(across)), np.nan)
    for cell, values in cells.items():
        maps[cell] = np.mean(values)
    return maps


def _values(runs: list[PlannedRun], field: str) -> list[Any]:
    return sorted({run.varied[field] for run in runs})


def _draw(view: View, maps: dict[Column, np.ndarray], runs: list[PlannedRun], fields: Sequence[str]) -> Figure:
    figure = Figure(figsize=(FULL_WIDTH, 4.2), layout="constrained")
    axes = figure.subplots(2, len(maps), squeeze=False)
    across, up = ([value_label(value) for value in _values(runs, field)] for field in fields)
    for place, (what, ends) in enumerate(maps.items()):
        for end, (values, when) in enumerate(zip(ends, ("start", "end"), strict=True)):
            panel: Axes = axes[end, place]
            panel.set_title(f"({chr(ord('a') + end * len(maps) + place)}) {what.title}, {when}", loc="left")
            panel.set_facecolor("#dddddd")  # what has no value
            image = panel.imshow(values, origin="lower", aspect="auto", cmap="viridis", norm=_norm(values, what.log))
            panel.set_xticks(range(len(across)), across)
            panel.set_yticks(range(len(up)), up)
            panel.grid(visible=False)
            panel.tick_params(length=0)
            panel.spines[:].set_visible(False)
            if end:
                panel.set_xlabel(view.short(fields[0]).capitalize())
            if not place:
                panel.set_ylabel(view.short(fields[1]).capitalize())
            if np.isfinite(values).any():
                bar = figure.colorbar(image, ax=panel, label=what.label, pad=0.03, aspect=16)
                bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
                if isinstance(image.norm, LogNorm):
                    log_ticks(bar.ax.yaxis, *bar.ax.get_ylim())
                else:
                    plain_ticks(bar.ax.yaxis)
    return figure


def _norm(values: np.ndarray, log: bool) -> Normalize:
    """Colours by the logarithm where values are positive and the largest is many times the least."""
    finite = values[np.isfinite(values)]
    if log and finite.size and finite.min() > 0 and finite.max() > _MANY * finite.min():
        return LogNorm(finite.min(), finite.max())
    return Normalize(*((finite.min(), finite.max()) if finite.size else (0, 1)))


def _caption(view: View, runs: list[PlannedRun], split: str, parts: list[str]) -> str:
    seeds = len({run.seed for run in runs})
    kernel = view.kernels("entropy" if view.kernels("entropy") else "trace")[0]
    fixed = f" At {', '.join(parts)}." if parts else ""
    return (
        "Entropy of the tangent kernel's spectrum (CV eq. 9), its trace (CV eq. 10) and the loss before and after "
        f"training on {split} data, means over seeds, after CV fig. 2. Each panel has its own colours; grey: no value. "
        f"Study {view.name}, {seeds} seed{'s' * (seeds != 1)}; kernel: {kernel}.{fixed}"
    )
