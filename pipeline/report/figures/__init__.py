"""The figures a report can show. A new one is a file here with a function of the study, and a line that imports it."""

from collections.abc import Callable
from inspect import isfunction

from tangentscope.pipeline.report.drawing.figure import FULL_WIDTH, Drawing, render
from tangentscope.pipeline.report.figures.bsc_alignment import bsc_alignment
from tangentscope.pipeline.report.figures.bsc_dynamics import bsc_dynamics
from tangentscope.pipeline.report.figures.bsc_noise import bsc_noise
from tangentscope.pipeline.report.figures.bsc_rates import bsc_rates
from tangentscope.pipeline.report.figures.bsc_scaling import bsc_scaling
from tangentscope.pipeline.report.figures.bsc_transition import bsc_transition
from tangentscope.pipeline.report.figures.curves import curves
from tangentscope.pipeline.report.figures.effective_rank import effective_rank
from tangentscope.pipeline.report.figures.emergence import emergence
from tangentscope.pipeline.report.figures.feature_profiles import feature_profiles
from tangentscope.pipeline.report.figures.feature_scaling import feature_scaling
from tangentscope.pipeline.report.figures.features_and_kernel import features_and_kernel
from tangentscope.pipeline.report.figures.finite_size import finite_size
from tangentscope.pipeline.report.figures.first_features import first_features
from tangentscope.pipeline.report.figures.fits import fits
from tangentscope.pipeline.report.figures.grokking import grokking
from tangentscope.pipeline.report.figures.heat_maps import heat_maps
from tangentscope.pipeline.report.figures.kernel_maps import kernel_maps
from tangentscope.pipeline.report.figures.layer_traces import layer_traces
from tangentscope.pipeline.report.figures.mode_strengths import mode_strengths
from tangentscope.pipeline.report.figures.new_points import new_points
from tangentscope.pipeline.report.figures.onset import onset
from tangentscope.pipeline.report.figures.phase_portrait import phase_portrait
from tangentscope.pipeline.report.figures.reconstructions import reconstructions
from tangentscope.pipeline.report.figures.reward import reward
from tangentscope.pipeline.report.figures.running_average import running_average
from tangentscope.pipeline.report.figures.scaling_laws import scaling_laws
from tangentscope.pipeline.report.figures.spectrum import spectrum
from tangentscope.pipeline.report.figures.stacked_traces import stacked_traces
from tangentscope.pipeline.report.view import View

# Every figure that is imported above, by its name.
FIGURES: dict[str, Callable[[View], list[Drawing]]] = {
    name: value
    for name, value in list(globals().items())
    if isfunction(value) and value.__module__ == f"{__name__}.{name}"
}

__all__ = ["FIGURES", "FULL_WIDTH", "Drawing", "render"]
