"""The figures a report can show. A new one is a file here with a function of the study, and a line in the table."""

from collections.abc import Callable

from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, render
from tangentscope.pipeline.report.figures.curves import curves
from tangentscope.pipeline.report.figures.effective_rank import effective_rank
from tangentscope.pipeline.report.figures.heat_maps import heat_maps
from tangentscope.pipeline.report.figures.layer_traces import layer_traces
from tangentscope.pipeline.report.figures.onset import onset
from tangentscope.pipeline.report.figures.reconstructions import reconstructions
from tangentscope.pipeline.report.figures.reward import reward
from tangentscope.pipeline.report.figures.running_average import running_average
from tangentscope.pipeline.report.view import View

FIGURES: dict[str, Callable[[View], list[Drawing]]] = {
    "curves": curves,
    "effective_rank": effective_rank,
    "layer_traces": layer_traces,
    "running_average": running_average,
    "heat_maps": heat_maps,
    "reconstructions": reconstructions,
    "reward": reward,
    "onset": onset,
}

__all__ = ["FIGURES", "FULL_WIDTH", "Drawing", "render"]
