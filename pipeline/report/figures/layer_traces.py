"""Which layers carry the kernel: the trace of each layer's part of it as training goes on."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.drawing.axes import log_x, log_y
from tangentscope.pipeline.report.drawing.by_layer import drawings_by_layer, in_legend
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing
from tangentscope.pipeline.report.view import View

_WHAT = "Trace of each layer's part of the tangent kernel, Θ = Σ Θ_l (CV eq. 10 by layer), and its share."


def layer_traces(view: View) -> list[Drawing]:
    """Trace of each layer's part of the kernel, and its share, on test and train data; one figure a network."""
    return drawings_by_layer(view, "layer_traces", "Traces by layer", _WHAT, _draw)


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
    handles = [Line2D([], [], color=palette[place], label=name) for place, name in in_legend(layers).items()]
    figure.legend(handles=handles, title="layer", loc="outside right center", frameon=False)
    return figure
