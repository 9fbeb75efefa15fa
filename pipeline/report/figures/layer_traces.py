"""Which layers carry the kernel: the trace of each layer's part of it as training goes on."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.drawing.axes import log_x, log_y
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.view import SPLITS, Kernel, View
from tangentscope.pipeline.store.planned import PlannedRun

_MOST = 8  # networks with a figure each; a large study would bury the report
_LONGEST = 16  # layers in a legend; of more every so many-th


def layer_traces(view: View) -> list[Drawing]:
    """Trace of each layer's part of the kernel, and its share, on test and train data; one figure a network."""
    drawings: list[Drawing] = []
    taken: set[str] = set()
    kernels = view.kernels("layer_traces")
    for kernel in kernels:
        for parts, runs in [*view.networks.items()][:_MOST]:
            found = {split: traces_by_layer(view, runs, split, kernel) for split in SPLITS}
            found = {split: traces for split, traces in found.items() if len(traces)}
            layers = runs[0].layers
            if not found or any(traces.shape[1] != len(layers) for traces in found.values()):
                continue
            with drawing_style():
                figure = _draw(view, found, layers)
            told = [part.replace("=", " = ", 1) for part in parts] + [str(kernel)] * (len(kernels) > 1)
            heading = ", ".join(["Traces by layer", *told])
            name = file_name("-".join(["layer_traces", *parts]), taken)
            drawings.append(Drawing(name, heading, caption(view, runs, kernel), figure))
    return drawings


def traces_by_layer(view: View, runs: list[PlannedRun], split: str, kernel: Kernel) -> pd.DataFrame:
    """Means over draws, then over seeds; a row a step, by its x, a column by layer. NaN in any of them stays NaN."""
    rows = view.profile(runs, split, "layer_traces", kernel)
    if not len(rows):
        return pd.DataFrame()
    about = {name: rows[name].array for name in ("run", "step", "x")}
    numbers = pd.DataFrame(np.stack(rows["values"].to_list())).assign(**about)
    by_run = numbers.groupby(["run", "step"]).agg(lambda values: values.mean(skipna=False))
    everyone = by_run.groupby("step").size() == by_run.index.get_level_values("run").nunique()
    # In games the seeds' positions at a step differ: their mean stands for them.
    return by_run.groupby("step").agg(lambda values: values.mean(skipna=False)).loc[everyone].set_index("x")


def _draw(view: View, found: dict[str, pd.DataFrame], layers: Sequence[str]) -> Figure:
    figure = Figure(figsize=(FULL_WIDTH, 0.6 + 1.9 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), 2, sharex=True, squeeze=False)
    viridis = matplotlib.colormaps["viridis"]
    palette = [viridis(0.9 * k / max(1, len(layers) - 1)) for k in range(len(layers))]
    for row, (split, traces) in enumerate(found.items()):
        shares = traces.div(traces.sum(axis=1, skipna=False), axis=0)
        columns = [("Trace by layer", "Trace Tr Θ$_l$", traces), ("Share of the trace", "Tr Θ$_l$ / Tr Θ", shares)]
        for place, (title, label, values) in enumerate(columns):
            panel = axes[row, place]
            dots = {"marker": "o", "markersize": 1.8} if len(values) <= 30 else {}
            for layer, colour in enumerate(palette):
                panel.plot(values.index, values[layer], color=colour, linewidth=1.0, **dots)
            panel.set_title(f"({chr(ord('a') + 2 * row + place)}) {title}, {split}", loc="left")
            panel.set_ylabel(label)
            if row == len(found) - 1:
                panel.set_xlabel(view.x.capitalize())
        positive = traces.to_numpy()[traces.to_numpy() > 0]
        if positive.size and positive.max() > 10 * positive.min():
            log_y(axes[row, 0])
        axes[row, 1].set_ylim(bottom=0)
    if view.log_x:
        log_x(axes.flat, [np.asarray(traces.index, dtype=float) for traces in found.values()])
    every = -(-len(layers) // _LONGEST)
    handles = [
        Line2D([], [], color=palette[k], label=layers[k] or "own parameters") for k in range(0, len(layers), every)
    ]
    figure.legend(handles=handles, title="layer", loc="outside right center", frameon=False)
    return figure


def caption(view: View, runs: list[PlannedRun], kernel: Kernel) -> str:
    """What figures of traces by layer are of."""
    seeds = len(runs)
    means = "; mean over them and over draws" if seeds > 1 else "; mean over draws" if kernel.draws > 1 else ""
    what = "Trace of each layer's part of the tangent kernel, Θ = Σ Θ_l (CV eq. 10 by layer), and its share."
    setting = f"Study {view.name}, {seeds} seed{'s' * (seeds != 1)}{means}; kernel: {kernel}."
    return f"{what} {setting} Colour: layers from input to output."
