"""The eigenvalue spectrum of the tangent kernel as training goes on: shares of the trace, by rank and step."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from tangentscope.pipeline.report.drawing.axes import log_x, plain_ticks
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.spectra import shares, spectra
from tangentscope.pipeline.report.view import SPLITS, Kernel, View

_MOST = 6  # networks
_LEAST = 1e-6  # of the trace: what is less is of no account to the entropy
_RANKS = 400  # rows of a heat map at most, evenly spaced by the logarithm of the rank

_WHAT = (
    "Eigenvalues of the tangent kernel as shares of its trace, p_k = λ_k/Σλ (CV eq. 9), by rank k, geometric means "
    "over draws and seeds. An even column is a high entropy, one with a bright top a low one. Grey: no value, or "
    "below 10⁻⁶."
)


def spectrum(view: View) -> list[Drawing]:
    """A heat map of p_k by rank and step for each network and split; empty where no spectra are on storage."""
    table = spectra(view)
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for kernel in dict.fromkeys(view.kernel_of(probe) for probe in view.probes):
        rows = {
            ", ".join(parts): {split: shares(table, runs, split, kernel) for split in SPLITS}
            for parts, runs in [*view.networks.items()][:_MOST]
        }
        rows = {title: {s: found for s, found in own.items() if len(found)} for title, own in rows.items()}
        rows = {title: own for title, own in rows.items() if own}
        if rows:
            with drawing_style():
                figure = _draw(view, rows)
            drawings.append(
                Drawing(file_name("spectrum", taken), "Spectrum", _caption(view, kernel, len(rows)), figure)
            )
    return drawings


def _draw(view: View, rows: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    splits = [split for split in SPLITS if any(split in own for own in rows.values())]
    figure = Figure(figsize=(FULL_WIDTH, 0.5 + 1.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(splits), squeeze=False, sharex=True)
    everything = [found.to_numpy() for own in rows.values() for found in own.values()]
    lowest = min((float(np.nanmin(values)) for values in everything if np.isfinite(values).any()), default=_LEAST)
    norm, image = LogNorm(max(_LEAST, min(lowest, 0.1)), 1.0), None
    for line, (title, own) in enumerate(rows.items()):
        for place, split in enumerate(splits):
            panel: Axes = axes[line, place]
            panel.set_facecolor("#dddddd")
            panel.grid(visible=False)
            letter = chr(ord("a") + line * len(splits) + place)
            panel.set_title(f"({letter}) {', '.join(filter(None, [title, split]))}".replace("$", r"\$"), loc="left")
            if split in own:
                image = _map(panel, own[split], norm)
            if place == 0:
                panel.set_ylabel("Rank $k$")
            if line == len(rows) - 1:
                panel.set_xlabel(view.x.capitalize())
    if view.log_x:
        log_x(axes.flat, [np.asarray(found.index, dtype=float) for own in rows.values() for found in own.values()])
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes.flat), label="Share of the trace $p_k$", pad=0.01, aspect=30)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def _map(panel: Axes, shares: pd.DataFrame, norm: LogNorm) -> Any:
    x, values = np.asarray(shares.index, dtype=float), shares.to_numpy()
    ranks = np.unique(np.geomspace(1, values.shape[1], _RANKS).astype(int))
    drawn = np.ma.masked_less(np.ma.masked_invalid(values[:, ranks - 1].T), _LEAST)
    edges = np.concatenate([[x[0]], (x[1:] + x[:-1]) / 2, [x[-1]]])  # a step stands for what is nearest to it
    heights = np.append(ranks, ranks[-1] + 1) - 0.5
    image = panel.pcolormesh(edges, heights, drawn, norm=norm, cmap="viridis", rasterized=True)
    panel.set_yscale("log")
    panel.set_ylim(values.shape[1] + 0.5, 0.5)
    plain_ticks(panel.yaxis)
    return image


def _caption(view: View, kernel: Kernel, shown: int) -> str:
    seeds = len({run.seed for run in view.runs})
    caption = f"{_WHAT} Study {view.name}, {seeds} seed{'s' * (seeds != 1)}; kernel: {kernel}."
    if len(view.networks) > shown:
        caption += f" Shown: the first {shown} of {len(view.networks)} networks; the table spectra has all."
    return caption
