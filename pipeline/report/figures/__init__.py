"""The figures a report can show. A new one is a file here with a function of the study, and a line in the table."""

from collections.abc import Callable

from pipeline.report.figures.curves import curves
from pipeline.report.figures.drawing import FULL_WIDTH, Drawing, render
from pipeline.report.figures.effective_rank import effective_rank
from pipeline.report.figures.reward import reward
from pipeline.report.view import View

FIGURES: dict[str, Callable[[View], list[Drawing]]] = {
    "curves": curves,
    "effective_rank": effective_rank,
    "reward": reward,
}

__all__ = ["FIGURES", "FULL_WIDTH", "Drawing", "render"]
