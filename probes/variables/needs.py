"""What variables can ask for, each computed once per kernel however many variables ask.

A need is a function of other needs, named by its arguments; ``kernel`` is where the chain starts. To add one, write
the function and one line in ``NEEDS``.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from probes.spectrum import Spectrum, float64_kernel
from probes.spectrum import spectrum as spectrum_of


def known_from(kernel: Tensor | np.ndarray) -> dict[str, Any]:
    """Start of the chain: the kernel in float64, all NaN if any entry is not finite, so that no variable hides it."""
    matrix = float64_kernel(kernel)
    if not bool(torch.isfinite(matrix).all()):
        matrix = torch.full_like(matrix, float("nan"))
    return {"kernel": matrix}


def resolve(need: str, known: dict[str, Any]) -> Any:
    """The value of ``need``, remembered in ``known`` together with everything computed on the way."""
    if need not in known:
        function = NEEDS[need]
        known[need] = function(**{name: resolve(name, known) for name in inspect.signature(function).parameters})
    return known[need]


def spectrum(kernel: Float64[Tensor, "side side"]) -> Spectrum:
    """Eigenvalues with their clipped mass."""
    return spectrum_of(kernel)


def eigenvalues(spectrum: Spectrum) -> Float64[np.ndarray, " side"]:
    """Descending, clipped to ≥ 0."""
    return spectrum.eigenvalues


def diagonal(kernel: Float64[Tensor, "side side"]) -> Float64[np.ndarray, " side"]:
    """Θ_ii."""
    return kernel.diagonal().cpu().numpy()


def cosine_kernel(kernel: Float64[Tensor, "side side"]) -> Float64[Tensor, "side side"]:
    """Θ̂[i,j] = Θ[i,j]/sqrt(Θ[i,i] Θ[j,j]) (BSC App. B.3); all NaN where an entry of the diagonal is not positive."""
    diagonal = kernel.diagonal()
    if not bool((diagonal > 0).all()):  # a NaN is not positive either
        return torch.full_like(kernel, float("nan"))
    norms = diagonal.sqrt()
    return kernel / norms[:, None] / norms[None, :]


def cosine_eigenvalues(cosine_kernel: Float64[Tensor, "side side"]) -> Float64[np.ndarray, " side"]:
    """Eigenvalues of Θ̂, descending, clipped to ≥ 0."""
    return spectrum_of(cosine_kernel).eigenvalues


NEEDS: dict[str, Callable[..., Any]] = {
    "spectrum": spectrum,
    "eigenvalues": eigenvalues,
    "diagonal": diagonal,
    "cosine_kernel": cosine_kernel,
    "cosine_eigenvalues": cosine_eigenvalues,
}
