"""A drawn figure, and how it becomes files: same data, same bytes; fonts embedded; no display used."""

import io
from contextlib import AbstractContextManager
from dataclasses import dataclass

from matplotlib import style
from matplotlib.figure import Figure

FULL_WIDTH = 7.2  # inches: both columns of a two-column page

_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.title_fontsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "savefig.dpi": 220,
    "pdf.fonttype": 42,  # TrueType: journals refuse the default's Type 3
    "svg.hashsalt": "tangentscope",  # else the ids are drawn at random
}
# No date in any file, and in the PNG no version either.
_METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


@dataclass(frozen=True)
class Drawing:
    """A figure with the name of its files (without ending) and what there is to say below it."""

    name: str
    title: str
    caption: str
    figure: Figure


def drawing_style() -> AbstractContextManager[None]:
    """Matplotlib's own defaults with ours on top, whatever this machine's matplotlibrc says; holds while it is open."""
    return style.context(["default", _STYLE])


def render(figure: Figure) -> dict[str, bytes]:
    """The figure as ``png``, ``pdf`` and ``svg``."""
    with drawing_style():
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # the layout is settled: the three formats need not solve it again
        files = {}
        for kind, metadata in _METADATA.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata)
            files[kind] = buffer.getvalue()
        return files
