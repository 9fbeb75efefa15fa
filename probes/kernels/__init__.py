"""Exact empirical tangent kernels of any module, layer by layer where a rule exists."""

from probes.kernels.tangent import tangent_kernel
from probes.kernels.treatment import OutputTreatment

__all__ = ["OutputTreatment", "tangent_kernel"]
