"""Probes: pure functions of (module, data) that watch the tangent kernel of a network.

>>> import torch
>>> from tangentscope import probes
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3))
>>> inputs = torch.randn(1000, 8)
>>> draws = probes.draw_indices(len(inputs), draws=20, size=16, seed=0)
>>> measurement = probes.measure(model, inputs, draws, outputs="full", variables=("trace", "entropy"))
>>> measurement.mean("entropy"), measurement.stderr("entropy")  # doctest: +SKIP

Letters used in shapes: N data points, O outputs per point, P parameters, side = N·O (full) or N (traced, summed).
"""

from tangentscope.probes.feature_metrics import FeatureMetrics, feature_metrics
from tangentscope.probes.features.conjugate_kernel import conjugate_kernels
from tangentscope.probes.features.last_layer import FeatureMap, Features, feature_map
from tangentscope.probes.kernels import (
    KernelPlan,
    LayerPlan,
    OutputTreatment,
    draw_kernels,
    draw_kernels_and_traces,
    kernel_plan,
    layer_kernels,
    layer_names,
    layer_traces,
    tangent_kernel,
)
from tangentscope.probes.measure import Measurement, draw_indices, measure
from tangentscope.probes.spectra.exact import Spectrum, eigenvalues, spectrum
from tangentscope.probes.variables import VARIABLES, Variable, collective_variables, givens_of
from tangentscope.probes.variables.features import FEATURE_VARIABLES
from tangentscope.probes.variables.features.learnability import learnability

__all__ = [
    "FEATURE_VARIABLES",
    "VARIABLES",
    "FeatureMap",
    "FeatureMetrics",
    "Features",
    "KernelPlan",
    "LayerPlan",
    "Measurement",
    "OutputTreatment",
    "Spectrum",
    "Variable",
    "collective_variables",
    "conjugate_kernels",
    "draw_indices",
    "draw_kernels",
    "draw_kernels_and_traces",
    "eigenvalues",
    "feature_map",
    "feature_metrics",
    "givens_of",
    "kernel_plan",
    "layer_kernels",
    "layer_names",
    "layer_traces",
    "learnability",
    "measure",
    "spectrum",
    "tangent_kernel",
]
