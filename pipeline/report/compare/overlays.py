"""Figures of several studies on top of each other: a panel a variable and split, a colour a study."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.report.compare.shared import Shared
from tangentscope.pipeline.report.drawing.axes import log_x, log_y
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.drawing.lines import DRAWS, MEAN, SEEDS, Curves, draw, spans_a_decade
from tangentscope.pipeline.report.view import View

_LABELS = {"entropy": "Entropy $S$ (nats)", "trace": "Trace Tr Θ", "effective_rank": "Effective rank exp $S$"}
_FIRST = ("entropy", "trace", "loss", "effective_rank", "score")
_COLUMNS = 3


def overlays(views: Sequence[View], names: Sequence[str], found: Sequence[Shared]) -> list[Drawing]:
    """A figure for each split: the variables that all studies have there, as training goes on.

    A line is a network's mean over its seeds.
    """
    drawings = []
    for split in dict.fromkeys(one.split for one in found):
        own = sorted(
            (one for one in found if one.split == split),
            key=lambda one: _FIRST.index(one.variable) if one.variable in _FIRST else len(_FIRST),
        )
        panels = {one: [_curves(view, one, place) for place, view in enumerate(views)] for one in own}
        panels = {one: curves for one, curves in panels.items() if any(any(lines) for lines in curves)}
        if panels:
            with drawing_style():
                figure, used = _draw(views, names, panels)
            drawings.append(Drawing(f"compare-{split}", f"On {split} data", _caption(views, names, used), figure))
    return drawings


def _curves(view: View, one: Shared, place: int) -> list[Curves]:
    """Of each of a study's networks; of a profile, which has no numbers, none."""
    kernel = one.kernels[place]
    return [
        Curves.of(view.curve(run, one.split, one.variable, kernel) for run in runs) for runs in view.networks.values()
    ]


def _draw(
    views: Sequence[View], names: Sequence[str], panels: dict[Shared, list[list[Curves]]]
) -> tuple[Figure, set[str]]:
    across = min(_COLUMNS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(FULL_WIDTH * across / _COLUMNS, 0.6 + 1.9 * down), layout="constrained")
    axes: list[Axes] = list(figure.subplots(down, across, sharex=True, squeeze=False).flat)
    palette = list(colours(list(names)).values())
    used: set[str] = set()
    for number, (one, studies) in enumerate(panels.items()):
        panel = axes[number]
        label = _LABELS.get(one.variable, one.variable.replace("_", " ").capitalize())
        panel.set_title(f"({chr(ord('a') + number)}) {one.variable.replace('_', ' ').capitalize()}", loc="left")
        panel.set_ylabel(label)
        for colour, lines in zip(palette, studies, strict=True):
            for curves in lines:
                used |= draw(panel, curves, colour)
        if one.variable != "entropy" and spans_a_decade(curves for lines in studies for curves in lines):
            log_y(panel)
        if number >= len(panels) - across:
            panel.set_xlabel(views[0].x.capitalize())
    for empty in axes[len(panels) :]:
        empty.remove()
    if any(view.log_x for view in views):
        log_x(axes[: len(panels)], [c.x for studies in panels.values() for lines in studies for c in lines])
    handles = [Line2D([], [], color=colour, label=name) for name, colour in zip(names, palette, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
    return figure, used


def _caption(views: Sequence[View], names: Sequence[str], used: set[str]) -> str:
    told = "; ".join(
        f"{name}: {len(view.networks)} network{'s' * (len(view.networks) != 1)}, {len(view.runs)} runs"
        for name, view in zip(names, views, strict=True)
    )
    return " ".join([f"Colour: study ({told}).", *(note for note in (MEAN, DRAWS, SEEDS) if note in used)])
