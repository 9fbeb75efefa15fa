"""Exact empirical tangent kernels of any module, layer by layer where a rule exists."""

from tangentscope.probes.kernels.plan import KernelPlan, LayerPlan, kernel_plan
from tangentscope.probes.kernels.tangent import (
    draw_kernels,
    draw_kernels_and_traces,
    layer_kernels,
    layer_names,
    layer_traces,
    tangent_kernel,
)
from tangentscope.probes.kernels.treatment import OutputTreatment

__all__ = [
    "KernelPlan",
    "LayerPlan",
    "OutputTreatment",
    "draw_kernels",
    "draw_kernels_and_traces",
    "kernel_plan",
    "layer_kernels",
    "layer_names",
    "layer_traces",
    "tangent_kernel",
]
