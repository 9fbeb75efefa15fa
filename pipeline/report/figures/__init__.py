"""The figures a report can show. A new one is a file here with a function of the study, and a line in the table."""

from collections.abc import Callable

from pipeline.report.figures.curves import curves
from pipeline.report.figures.drawing import FULL_WIDTH, Drawing, render
from pipeline.report.figures.effective_rank import effective_rank
from pipeline.report.figures.heat_maps import heat_maps
from pipeline.report.figures.layer_traces import layer_traces
from pipeline.report.figures.onset import onset
from pipeline.report.figures.reconstructions import reconstructions
from pipeline.report.figures.reward import reward
from pipeline.report.figures.running_average import running_average
from pipeline.report.view import View

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
