"""Entropy of the kernel beyond that within its classes."""

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from tangentscope.probes.spectra.exact import spectrum
from tangentscope.probes.variables.formulas import ratio, shannon_entropy
from tangentscope.probes.variables.variable import Variable


def entropy_gap(
    eigenvalues: Float64[np.ndarray, " side"], block_kernel: Float64[Tensor, "N R N R"], classes: Int64[Tensor, " N"]
) -> float:
    """S(Θ) − Σ_c w_c S(Θ_cc), w_c = Tr Θ_cc/Tr Θ, in nats, in [0, ln(classes)]; NaN for the zero kernel.

    With these weights it is the Holevo information of gradient directions about the class.
    """
    total = float(block_kernel.diagonal(dim1=0, dim2=2).diagonal().sum())
    within = 0.0
    for members in (classes == c for c in classes.unique()):
        block = block_kernel[members][:, :, members]
        kernel = block.reshape(block.shape[0] * block.shape[1], -1)
        weight = ratio(float(kernel.diagonal().sum()), total)
        if weight != 0:  # a class of no trace has no entropy, nor a share
            within += weight * shannon_entropy(spectrum(kernel).eigenvalues)
    return shannon_entropy(eigenvalues) - within


VARIABLE = Variable(
    "entropy_gap", version=1, source="von Neumann entropies as CV eq. 9; Holevo 1973", compute=entropy_gap
)
