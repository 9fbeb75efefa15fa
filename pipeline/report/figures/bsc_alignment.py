"""Label alignment of the kernel and the turning of its eigenvectors against the training loss, after BSC fig. 8."""

from matplotlib.figure import Figure

from tangentscope.pipeline.report.derived import scalings
from tangentscope.pipeline.report.drawing.at_loss import at_equal_loss, loss_axis
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.facets import file_name
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.figures.bsc_dynamics import draw_mean
from tangentscope.pipeline.report.figures.bsc_scaling import legend
from tangentscope.pipeline.report.summaries import results_on
from tangentscope.pipeline.report.view import View, value_label

_MOST = 8  # ensembles with a figure each
_PANELS = {
    "label_alignment": ("Label alignment", "⟨Θ, yyᵀ⟩/(‖Θ‖ ‖yyᵀ‖)"),
    "misalignment_subspace_step": ("Turn since the step before", "1 − ‖$V_n^T V'_n$‖²/$n$"),
    "misalignment_subspace": ("Turn since initialisation", "1 − ‖$V_n^T V'_n$‖²/$n$"),
}
_WHAT = (
    "Label alignment (BSC eq. 16) and misalignment of the leading n eigenvectors, n the effective rank (BSC eq. 17, of "
    "subspaces), at equal training loss: means over seeds with one standard error; training goes from left to right."
)


def bsc_alignment(view: View) -> list[Drawing]:
    """A figure for each ensemble, a panel for each of these that is measured, a colour a size."""
    way = results_on(view)
    panels = {name: how for name, how in _PANELS.items() if view.kernels(name)}
    if way is None or not panels:
        return []
    drawings: list[Drawing] = []
    taken: set[str] = set()
    for scaling in scalings(view)[:_MOST]:
        ensemble = scaling.ensemble
        sizes = [int(size) if size == int(size) else size for size in ensemble.sizes]
        palette = colours(sizes)
        with drawing_style():
            figure = Figure(figsize=(FULL_WIDTH * (0.35 + 0.22 * len(panels)), 2.9), layout="constrained")
            axes = figure.subplots(1, len(panels), squeeze=False)[0]
            for panel, (variable, (title, label)) in zip(axes, panels.items(), strict=True):
                for size, runs in zip(sizes, ensemble.runs, strict=True):
                    found = at_equal_loss(view, runs, way[0], variable, view.kernels(variable)[0])
                    if found is not None:
                        draw_mean(panel, *found, palette[value_label(size)])
                panel.set_title(title, loc="left")
                panel.set_ylabel(label)
                loss_axis(panel)
            legend(figure, palette)
        name = file_name("-".join(["bsc_alignment", view.short(ensemble.field), *ensemble.others]), taken)
        title = ", ".join(["Alignment at equal loss", *ensemble.others])
        about = f"After BSC fig. 8. Study {view.name}; colour: {view.short(ensemble.field)}."
        drawings.append(Drawing(name, title, f"{_WHAT} {about}", figure))
    return drawings
