"""What each layer adds to the trace, stacked up to the whole of it, as training goes on."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tangentscope.pipeline.report.drawing.axes import log_x
from tangentscope.pipeline.report.drawing.by_layer import drawings_by_layer, in_legend
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing
from tangentscope.pipeline.report.view import View

_WHAT = "Traces of the layers' parts of the tangent kernel, Θ = Σ Θ_l (CV eq. 10 by layer), on top of each other."


def stacked_traces(view: View) -> list[Drawing]:
    """Traces of the layers' parts of the kernel on top of each other, a panel a split; one figure a network."""
    return drawings_by_layer(view, "stacked_traces", "Traces by layer, stacked", _WHAT, _draw)


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
    handles = [Patch(color=palette[place], label=name) for place, name in in_legend(layers).items()][::-1]
    figure.legend(handles=handles, title="layer", loc="outside right center", frameon=False)
    return figure
