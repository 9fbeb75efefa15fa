"""What is learned beside how fast: entropy of the tangent kernel, effective dimension of features and κ, over time."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tangentscope.pipeline.config.features import BOTH
from tangentscope.pipeline.report.drawing.axes import log_x
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.drawing.lines import Curves, draw
from tangentscope.pipeline.report.features import ways
from tangentscope.pipeline.report.view import View
from tangentscope.probes.variables.features.kappa_cka import MINIMUM_FEATURE

_OF_FEATURES = {
    "effective_dimension_intensity": "$D_\\mathrm{eff}(\\rho)$",
    "feature_effective_rank": "$D_\\mathrm{eff}(\\rho)$, the first as the others",
    "effective_dimension_utilisation": "$D_\\mathrm{eff}(\\hat{Q})$",
    "effective_dimension_quality": "$D_\\mathrm{eff}(Q^*)$",
    "kappa_cka": "$\\kappa$",
}
_COLUMNS = 3


def features_and_kernel(view: View) -> list[Drawing]:
    """S of the kernel (nats), D_eff and κ against time, a colour a network; empty where no number is of features."""
    panels = {name: title for name, title in _OF_FEATURES.items() if ways(view, name)}
    if not panels:
        return []
    of_kernel = [(split, kernel) for split in ("test", "train") for kernel in view.kernels("entropy", split)][:1]
    palette = colours([", ".join(parts) for parts in view.networks])
    rows = -(-(len(panels) + len(of_kernel)) // _COLUMNS)
    used: set[str] = set()
    with drawing_style():
        height = 0.5 + 1.9 * rows + 0.16 * (len(palette) // 2)
        figure = Figure(figsize=(FULL_WIDTH, height), layout="constrained")
        axes = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
        titles = {("entropy", split, kernel): f"Entropy $S$ of Θ (nats), {split}" for split, kernel in of_kernel}
        titles |= {(name, BOTH, ways(view, name)[0]): title for name, title in panels.items()}
        positions = []
        for place, ((variable, split, kernel), title) in enumerate(titles.items()):
            for parts, runs in view.networks.items():
                curves = Curves.of(view.curve(run, split, variable, kernel) for run in runs)
                used |= draw(axes[place], curves, palette[", ".join(parts)])
                positions.append(curves.x)
            axes[place].set_title(f"({chr(ord('a') + place)}) {title}", loc="left")
            if variable == "kappa_cka":
                axes[place].axhline(MINIMUM_FEATURE, color="#777777", linestyle=":", linewidth=0.8)
                axes[place].set_ylim(bottom=0)
            axes[place].set_xlabel(view.x.capitalize())
        for panel in axes[len(titles) :]:
            panel.set_visible(False)
        if view.log_x:
            log_x(axes[: len(titles)], positions)
        if len(palette) > 1:
            handles = [Line2D([], [], color=colour, label=name) for name, colour in palette.items()]
            figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    what = (
        "Entropy of the tangent kernel's spectrum (CV eq. 9) beside effective dimensions of the last hidden layer's "
        "features (Nam eq. 1.16, 2.6) and κ (eq. 2.8–2.9), on the same snapshots. Dotted: κ = 0.1, below which the "
        "regime is that of minimum features."
    )
    caption = " ".join([what, f"Study {view.name}; {ways(view, next(iter(panels)))[0]}.", *sorted(used)])
    return [Drawing("features_and_kernel", "Features beside the tangent kernel", caption, figure)]
