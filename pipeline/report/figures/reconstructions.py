"""What an auto-encoder makes of test points, and of draws from its prior, as its training goes on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.formatting import number
from tangentscope.pipeline.report.view import SPLITS, View, column, value_label
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.system.errors import UserError

_TILES = 10  # points, and draws from the prior
_GAP = 2  # pixels between two tiles
_MOST = 4  # networks
_SEED = 0  # of the draws, the same at every snapshot


@dataclass(frozen=True)
class _Row:
    """Images [tiles, height, width] or [tiles, height, width, 3] in [0, 1], and what to say beside them."""

    label: str
    points: np.ndarray
    samples: np.ndarray | None = None


def reconstructions(view: View) -> list[Drawing]:
    """Test points and their reconstructions at the first, a middle and the last kept snapshot; draws from the prior.

    One drawing for the first seed of each network. Empty unless networks have `mean` and `decode`, and inputs are
    images.
    """
    networks: dict[tuple[str, ...], PlannedRun] = {}
    for run in view.runs:
        networks.setdefault(tuple(value_label(run.varied[field]) for field in view.varied), run)
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for labels, run in list(networks.items())[:_MOST]:
        if rows := _rows(view, run):
            parts = [f"{view.short(field)}={label}" for field, label in zip(view.varied, labels, strict=True)]
            heading = ", ".join(["Reconstructions", *(part.replace("=", " = ", 1) for part in parts)])
            with drawing_style():
                figure = _draw(rows)
            name = file_name("-".join(["reconstructions", *parts]), taken)
            drawings.append(Drawing(name, heading, _caption(view, run, rows), figure))
    return drawings


def _rows(view: View, run: PlannedRun) -> list[_Row]:
    """The points themselves, then a row for each snapshot shown; none for networks or inputs of another kind."""
    found = _images(view, run)
    if found is None:
        return []
    split, inputs = found
    try:
        network: Any = view.store.network(run)
    except UserError:
        return []
    if not (hasattr(network, "mean") and hasattr(network, "decode")):
        return []
    rows = [_Row(f"{split} images", _tiles(inputs))]
    kept = view.store.kept(run.id)
    curve = view.curve(run, split, "score", None)
    score = dict(zip(curve["step"], column(curve, "value"), strict=True))
    for name in [kept[k] for k in sorted({0, len(kept) // 2, len(kept) - 1})] if kept else []:
        network.load_state_dict(view.store.parameters(run.id, name))
        at = f"epoch {run.epoch(name.step):.3g}" if view.x == "epoch" else f"step {name.step:,}"
        beside = f"\n{view.score} {number(score[name.step])}" if name.step in score else ""
        rows.append(_Row(at + beside, *_decoded(network, inputs)))
    return rows


def _images(view: View, run: PlannedRun) -> tuple[str, Tensor] | None:
    """The first few points of a probe, on test data if there are any; None if they are no grey or coloured images."""
    for split in SPLITS:
        for probe in run.probes:
            if probe in view.probes and view.probes[probe].split == split:
                inputs = view.store.points(probe).get("inputs")
                if inputs is not None and inputs.dim() == 4 and inputs.shape[1] in (1, 3):
                    return split, inputs[:_TILES]
    return None


def _decoded(network: Any, inputs: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The decoder's means at the encoder's means of points, and at draws of the prior N(0, 1)."""
    with torch.no_grad():
        means = network.mean(inputs)
        draws = torch.randn(means.shape, generator=torch.Generator().manual_seed(_SEED))
        points, samples = (network.decode(z).sigmoid().view(inputs.shape) for z in (means, draws))
    return _tiles(points), _tiles(samples)


def _tiles(images: Tensor) -> np.ndarray:
    array = images.clamp(0, 1).permute(0, 2, 3, 1).numpy()
    # Grey images as dark ink on the white of the page.
    return 1 - array[..., 0] if array.shape[3] == 1 else array


def _draw(rows: list[_Row]) -> Figure:
    tiles, height, width = rows[0].points.shape[:3]
    panels = 1 + any(row.samples is not None for row in rows)
    side = (FULL_WIDTH - 0.9) / (2 * _TILES)  # inches of a tile
    figure = Figure(
        figsize=(0.9 + side * tiles * panels, 0.3 + side * len(rows) * height / width), layout="constrained"
    )
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _strip(axes[0], [row.points for row in rows])
    centres = [(height + _GAP) * place + height / 2 for place in range(len(rows))]
    axes[0].set_yticks(centres, [row.label for row in rows], fontsize=6.5)
    axes[0].set_title("(a) Reconstructions" if panels > 1 else "(a) Images", loc="left")
    if panels > 1:
        _strip(axes[1], [np.ones_like(rows[0].points) if row.samples is None else row.samples for row in rows])
        axes[1].set_yticks([])
        axes[1].set_title("(b) Draws from the prior, decoded", loc="left")
    return figure


def _strip(panel: Axes, rows: list[np.ndarray]) -> None:
    """Rows of tiles as one image."""
    tiles, height, width, *colours = rows[0].shape
    canvas = np.ones(((height + _GAP) * len(rows) - _GAP, (width + _GAP) * tiles - _GAP, *colours))
    for line, row in enumerate(rows):
        for place, tile in enumerate(row):
            top, left = (height + _GAP) * line, (width + _GAP) * place
            canvas[top : top + height, left : left + width] = tile
    panel.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    panel.set_xticks([])
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)


def _caption(view: View, run: PlannedRun, rows: list[_Row]) -> str:
    what = f"Study {view.name}, run {run.name}. Points of the kernels' draws"
    if len(rows) == 1:
        return f"{what}. No snapshot of this run is kept (probes.keep), so there is nothing to decode them with."
    return (
        f"{what}, and the decoder's mean at the encoder's mean at the first, a middle and the last snapshot that is "
        f"kept; beside them the decoder's mean at the same {len(rows[0].points)} draws of z from N(0, 1) each time."
    )
