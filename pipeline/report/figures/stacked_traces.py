"""What each layer adds to the trace, stacked up to the whole of it, as training goes on."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tangentscope.pipeline.report.drawing.axes import log_x
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.figures.layer_traces import caption, traces_by_layer
from tangentscope.pipeline.report.view import SPLITS, View

_MOST = 8  # networks with a figure each
_LONGEST = 16  # layers in a legend; of more every so many-th


def stacked_traces(view: View) -> list[Drawing]:
    """Traces of the layers' parts of the kernel on top of each other, a panel a split; one figure a network."""
    drawings: list[Drawing] = []
    taken: set[str] = set()
    kernels = view.kernels("layer_traces")
    for kernel in kernels:
        for parts, runs in [*view.networks.items()][:_MOST]:
            layers = runs[0].layers
            found = {split: traces_by_layer(view, runs, split, kernel) for split in SPLITS}
            found = {split: traces for split, traces in found.items() if len(traces) and traces.shape[1] == len(layers)}
            if not found:
                continue
            with drawing_style():
                figure = _draw(view, found, layers)
            told = [part.replace("=", " = ", 1) for part in parts] + [str(kernel)] * (len(kernels) > 1)
            name = file_name("-".join(["stacked_traces", *parts]), taken)
            heading = ", ".join(["Traces by layer, stacked", *told])
            drawings.append(Drawing(name, heading, caption(view, runs, kernel), figure))
    return drawings


def _draw(view: View, found: dict[str, pd.DataFrame], layers: Sequence[str]) -> Figure:
    figure = Figure(figsize=(FULL_WIDTH, 2.6), layout="constrained")
    axes = figure.subplots(1, len(found), sharex=True, squeeze=False)[0]
    viridis = matplotlib.colormaps["viridis"]
    palette: list[Any] = [viridis(0.95 * k / max(1, len(layers) - 1)) for k in range(len(layers))]
    for place, (split, traces) in enumerate(found.items()):
        panel = axes[place]
        panel.stackplot(
            np.asarray(traces.index, dtype=float), traces.to_numpy().T, colors=palette, linewidth=0.3, edgecolor="white"
        )
        panel.set_title(f"({chr(ord('a') + place)}) {split}", loc="left")
        panel.set_xlabel(view.x.capitalize())
        panel.set_ylim(bottom=0)
    axes[0].set_ylabel("Trace Tr Θ$_l$, stacked")
    if view.log_x:
        log_x(axes, [np.asarray(traces.index, dtype=float) for traces in found.values()])
    every = -(-len(layers) // _LONGEST)
    shown = range(0, len(layers), every)
    handles = [Patch(color=palette[k], label=layers[k] or "own parameters") for k in shown][::-1]
    figure.legend(handles=handles, title="layer", loc="outside right center", frameon=False)
    return figure
