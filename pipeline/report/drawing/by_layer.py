"""What figures of the traces of a kernel's layers share: the numbers, one drawing per network, and the caption."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import Drawing, drawing_style
from tangentscope.pipeline.report.view import SPLITS, Kernel, View
from tangentscope.pipeline.store.planned import PlannedRun

_MOST = 8  # networks with a figure each; a large study would bury the report
_LONGEST = 16  # layers in a legend; of more every so many-th

Draw = Callable[[View, dict[str, pd.DataFrame], Sequence[str]], Figure]
"""Draws the traces of each split, a row a step and a column a layer, of layers with these names."""


def drawings_by_layer(view: View, kind: str, heading: str, what: str, draw: Draw) -> list[Drawing]:
    """One drawing for each network and kernel of which traces by layer are measured.

    Args:
        view: The study.
        kind: How file names begin.
        heading: How headings begin.
        what: The first sentence of the captions.
        draw: Makes the figure of one network.
    """
    drawings: list[Drawing] = []
    taken: set[str] = set()
    kernels = view.kernels("layer_traces")
    for kernel in kernels:
        for parts, runs in [*view.networks.items()][:_MOST]:
            layers = runs[0].layers
            traces = {split: traces_by_layer(view, runs, split, kernel) for split in SPLITS}
            traces = {split: frame for split, frame in traces.items() if len(frame)}
            if not traces or any(frame.shape[1] != len(layers) for frame in traces.values()):
                continue
            with drawing_style():
                figure = draw(view, traces, layers)
            varied = [part.replace("=", " = ", 1) for part in parts] + [str(kernel)] * (len(kernels) > 1)
            name = file_name("-".join([kind, *parts]), taken)
            drawings.append(Drawing(name, ", ".join([heading, *varied]), _caption(view, runs, kernel, what), figure))
    return drawings


def in_legend(layers: Sequence[str]) -> dict[int, str]:
    """The layers that a legend shows, by their place."""
    every = -(-len(layers) // _LONGEST)
    return {place: layers[place] or "own parameters" for place in range(0, len(layers), every)}


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


def _caption(view: View, runs: list[PlannedRun], kernel: Kernel, what: str) -> str:
    seeds = len(runs)
    means = "; mean over them and over draws" if seeds > 1 else "; mean over draws" if kernel.draws > 1 else ""
    setting = f"Study {view.name}, {seeds} seed{'s' * (seeds != 1)}{means}; kernel: {kernel}."
    return f"{what} {setting} Colour: layers from input to output."
