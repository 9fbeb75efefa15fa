"""At which epoch the test loss is least, by size and learning rate: how rates are chosen (BSC App. D.1)."""

from matplotlib.figure import Figure

from tangentscope.pipeline.report.derived import Scaling, scalings
from tangentscope.pipeline.report.derived.ensembles import RATE
from tangentscope.pipeline.report.derived.scaling import IN_TIME
from tangentscope.pipeline.report.drawing.colours import colours
from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, drawing_style
from tangentscope.pipeline.report.figures.bsc_scaling import legend, settle
from tangentscope.pipeline.report.view import View

_MOST = 6  # panels
_WHAT = (
    "Epoch of the least test loss, a point a seed, a colour a learning rate. Grey: epochs "
    f"{IN_TIME[0]} to {IN_TIME[1]}, where BSC App. D.1 want it; at the last epoch it may yet fall."
)


def bsc_rates(view: View) -> list[Drawing]:
    """A panel for each combination of what is varied beside size and rate; empty where no rate is varied by itself."""
    rate = f"{view.short(RATE)}="
    panels: dict[str, list[tuple[str, Scaling]]] = {}
    for one in scalings(view):
        others = one.ensemble.others
        for part in (part for part in others if part.startswith(rate)):
            panels.setdefault(", ".join(other for other in others if other != part), []).append((part, one))
    shown = dict([*panels.items()][:_MOST])
    if not shown:
        return []
    palette = colours(list(dict.fromkeys(part for ours in shown.values() for part, _ in ours)))
    with drawing_style():
        figure = Figure(figsize=(FULL_WIDTH * (1 if len(shown) > 1 else 0.55), 2.9), layout="constrained")
        axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for place, (panel, (title, ours)) in enumerate(zip(axes, shown.items(), strict=True)):
            panel.axhspan(*IN_TIME, color="#dddddd", linewidth=0)
            for part, one in ours:
                ensemble = one.ensemble
                for epochs in one.at_best:
                    panel.plot(ensemble.sizes, epochs, "o", color=palette[part], markersize=3, alpha=0.6)
                panel.set_xlabel("Width" if ensemble.by_width else "Training points")
            panel.set(xscale="log", yscale="log")
            panel.set_title(f"({chr(ord('a') + place)}) {title}", loc="left")
            settle(panel)
        axes[0].set_ylabel("Epoch of the least test loss")
        legend(figure, palette)
    caption = f"{_WHAT} Study {view.name}."
    return [Drawing("bsc_rates", "Learning rates and the least test loss", caption, figure)]
