"""How the curves of several seeds become lines and bands in a panel, without hiding a gap."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from tangentscope.pipeline.report.view import column

# What a caption says of the ways of drawing that were used.
MEAN = "Lines: mean over seeds; bands: ± one standard error over seeds; faint: single seeds."
SEEDS = "Thin lines: single seeds, where fewer than three have a value or not all of them have."
DRAWS = "Bands: ± one standard error over draws of the probe points."


@dataclass(frozen=True)
class Curves:
    """One variable of runs that differ by their seed only: `x` [steps], the rest [steps, seeds]; NaN: absent."""

    x: np.ndarray
    values: np.ndarray
    stderr: np.ndarray

    @classmethod
    def of(cls, curves: Iterable[pd.DataFrame]) -> "Curves":
        """From frames with the columns ``step, x, value, stderr``; those without a value are left out."""
        found = [curve.set_index("step") for curve in curves if np.isfinite(column(curve, "value")).any()]
        if not found:
            return cls(np.empty(0), np.empty((0, 0)), np.empty((0, 0)))
        side = [pd.concat([curve[name] for curve in found], axis=1) for name in ("x", "value", "stderr")]
        x, values, stderr = (frame.sort_index() for frame in side)
        return cls(np.asarray(x.max(axis=1), dtype=float), values.to_numpy(dtype=float), stderr.to_numpy(dtype=float))

    def __bool__(self) -> bool:
        return self.values.size > 0


def draw(panel: Axes, curves: Curves, colour: Any) -> set[str]:
    """Draw the seeds' curves in one colour; returns what a caption has to say about how.

    From three seeds on their mean and its standard error, below that each seed by itself. A single seed shows the
    standard error over its draws, if it has any.
    """
    if not curves:
        return set()
    x, values = curves.x, curves.values
    seeds = values.shape[1]
    dots = {"marker": "o", "markersize": 1.8} if len(x) <= 30 else {}
    if seeds == 1:
        panel.plot(x, values, color=colour, **dots)
        stderr = curves.stderr[:, 0]
        if not (np.nan_to_num(stderr) > 0).any():
            return set()
        _band(panel, x, values[:, 0], stderr, colour)
        return {DRAWS}
    # A mean over changing sets of seeds would jump where a seed stops: it is drawn where all have a value.
    complete = np.isfinite(values).all(axis=1) & (seeds >= 3)
    used = set()
    if complete.any():
        mean = np.where(complete, values.mean(axis=1), np.nan)
        panel.plot(x, mean, color=colour, **dots)
        _band(panel, x, mean, values.std(axis=1, ddof=1) / np.sqrt(seeds), colour)
        _faint(panel, x, np.where(complete[:, None], values, np.nan), colour)
        used.add(MEAN)
    if np.isfinite(values[~complete]).any():
        beside = ~complete
        beside[1:] |= ~complete[:-1]
        beside[:-1] |= ~complete[1:]
        thin = np.where(beside[:, None], values, np.nan)
        panel.plot(x, thin, color=colour, linewidth=0.7, alpha=0.8, **dots)
        used.add(SEEDS)
    return used


def spans_a_decade(curves: Iterable[Curves]) -> bool:
    """Whether all values are positive and the largest is more than ten times the least: a logarithmic axis then."""
    values = np.concatenate([np.empty(0), *(group.values.ravel() for group in curves)])
    values = values[np.isfinite(values)]
    return values.size > 0 and values.min() > 0 and values.max() > 10 * values.min()


def _faint(panel: Axes, x: np.ndarray, values: np.ndarray, colour: Any) -> None:
    """Single seeds behind their mean: one collection, which is lighter than as many lines."""
    traces = [np.column_stack([x, seed]) for seed in values.T]
    panel.add_collection(LineCollection(traces, colors=[colour], linewidths=0.4, alpha=0.3, zorder=1.5))
    panel.autoscale_view()


def _band(panel: Axes, x: np.ndarray, centre: np.ndarray, half: np.ndarray, colour: Any) -> None:
    panel.fill_between(x, centre - half, centre + half, color=colour, alpha=0.2, linewidth=0)
