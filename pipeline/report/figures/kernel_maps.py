"""The kernel between points, ordered by class, at the start of training, at the turn of the entropy and at the end."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure

from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.formatting import number
from tangentscope.pipeline.report.view import Kernel, View, column
from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.probes.trajectories.curves import running_mean

_VARIABLE = "kernel_by_class"
_MOST = 4  # networks

_WHAT = (
    "Tangent kernel between data points, mean over logits, as cosines Θ_ij/√(Θ_ii Θ_jj), points ordered by class. "
    "Blocks along the diagonal are classes whose points learn from each other. Grey: a point whose Θ_ii is 0."
)

Maps = dict[str, Float64[np.ndarray, "N N"]]


def kernel_maps(view: View) -> list[Drawing]:
    """A row of heat maps for each network, of its first seed and the first draw; empty where no kernels are kept."""
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for kernel in view.kernels(_VARIABLE):
        for split in ("test", "train"):
            rows = {
                ", ".join(parts): _maps(view, runs[0], split, kernel)
                for parts, runs in [*view.networks.items()][:_MOST]
            }
            rows = {network: maps for network, maps in rows.items() if maps}
            if rows:
                with drawing_style():
                    figure = _draw(rows)
                name, caption = file_name(f"kernel_maps-{split}", taken), _caption(view, kernel, split, len(rows))
                drawings.append(Drawing(name, f"Kernel by class, {split}", caption, figure))
    return drawings


def _maps(view: View, run: PlannedRun, split: str, kernel: Kernel) -> Maps:
    """By a heading, the kernel at the first and the last step, and where the smoothed entropy is least between them."""
    rows = view.profile([run], split, _VARIABLE, kernel)
    rows = rows.loc[rows["draw"] == rows["draw"].min()]
    kernels = dict(zip(rows["step"].tolist(), rows["values"], strict=True))
    if not kernels:
        return {}
    first, last = min(kernels), max(kernels)
    chosen = {"start": first, "turn": _turn(view, run, split, kernel), "end": last}
    lasting = run.epoch_steps or 1
    return {
        f"{name}, epoch {number(step / lasting, 3)}": _cosines(np.asarray(kernels[step]))
        for name, step in chosen.items()
        if step in kernels and (name != "turn" or first < step < last)
    }


def _turn(view: View, run: PlannedRun, split: str, kernel: Kernel) -> int | None:
    entropy = view.curve(run, split, "entropy", kernel)
    values = column(entropy, "value")
    if not len(values) or not np.isfinite(values).all():
        return None
    return int(column(entropy, "step")[np.argmin(running_mean(values))])


def _cosines(values: Float64[np.ndarray, " N*N"]) -> Float64[np.ndarray, "N N"]:
    side = math.isqrt(len(values))
    matrix = values.reshape(side, side)
    with np.errstate(divide="ignore", invalid="ignore"):
        norms = np.sqrt(np.diagonal(matrix))
        return matrix / norms[:, None] / norms[None, :]


def _draw(rows: Mapping[str, Maps]) -> Figure:
    columns = max(map(len, rows.values()))
    side = FULL_WIDTH / 4
    figure = Figure(figsize=(0.8 + side * columns, (side + 0.25) * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    image = None
    for line, (network, maps) in enumerate(rows.items()):
        for place, panel in enumerate(axes[line]):
            panel.set(xticks=[], yticks=[], facecolor="#dddddd")
            panel.grid(visible=False)
            panel.set_visible(place < len(maps))
            if place < len(maps):
                heading, matrix = [*maps.items()][place]
                image = panel.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
                letter = chr(ord("a") + line * columns + place)
                title = f"({letter}) {', '.join(filter(None, [network if place == 0 else '', heading]))}"
                panel.set_title(title.replace("$", r"\$"), loc="left")
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes.flat), label="Cosine", pad=0.01, aspect=30, shrink=0.5)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def _caption(view: View, kernel: Kernel, split: str, shown: int) -> str:
    caption = f"{_WHAT} Study {view.name}, {split} points, first seed, first draw; kernel: {kernel}."
    if len(view.networks) > shown:
        caption += f" Shown: {shown} of {len(view.networks)} networks."
    return caption
