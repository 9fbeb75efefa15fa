"""Curves of an ensemble against the training loss: networks of several sizes compared at equal loss (BSC App. C.1)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes

from tangentscope.pipeline.report.drawing.axes import plain_ticks
from tangentscope.pipeline.report.view import Kernel, View, column
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes.trajectories.at_loss import against_log_loss

_LEVELS = 60


def at_equal_loss(
    view: View, runs: Sequence[PlannedRun], split: str, variable: str, kernel: Kernel
) -> tuple[Float64[np.ndarray, " levels"], Float64[np.ndarray, "levels runs"]] | None:
    """Training losses from the highest start down to the lowest that all runs reach, and a variable at each.

    None where no run has both, all finite.
    """
    pairs = []
    for run in runs:
        both = view.curve(run, "train", "loss", None).merge(
            view.curve(run, split, variable, kernel), on="step", suffixes=("_loss", "")
        )
        loss, values = column(both, "value_loss"), column(both, "value")
        if len(loss) > 1 and np.isfinite(loss).all() and (loss > 0).all():
            pairs.append((np.log(loss), values))
    if not pairs:
        return None
    top, bottom = min(logs[0] for logs, _ in pairs), max(logs.min() for logs, _ in pairs)
    if top <= bottom:
        return None
    levels = np.linspace(top, bottom, _LEVELS)
    return np.exp(levels), np.stack([against_log_loss(logs, values, levels) for logs, values in pairs], 1)


def loss_axis(panel: Axes) -> None:
    """Training losses, falling from left to right as training goes on."""
    panel.set_xscale("log")
    panel.invert_xaxis()
    plain_ticks(panel.xaxis)
    panel.set_xlabel("Training loss (nats)")
