"""Spectra of kernels, in float64 whatever the kernel's own precision."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from tangentscope.probes.spectra import eigensolvers

SYMMETRY_TOLERANCE = 1e-4
"""Largest |Θ − Θᵀ| relative to the largest |Θ| that still counts as float32 rounding."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a kernel and how much had to be clipped to make them non-negative.

    eigenvalues: [side], descending, ≥ 0, in the kernel's unit; all NaN where the kernel is not finite.
    clipped_mass: Σ|negative eigenvalues| / Σ|eigenvalues| before clipping, in [0, 1]; about the rounding error for a
        true kernel, 0 for the zero kernel, NaN where the kernel is not finite.
    """

    eigenvalues: Float64[np.ndarray, " side"]
    clipped_mass: float


def spectrum(kernel: Float[Tensor, "side side"] | Float[np.ndarray, "side side"]) -> Spectrum:
    """Spectrum of a symmetric kernel (the λ_k of CV eq. 7-9).

    Negative eigenvalues are clipped to 0, and so are positive ones below side · 2⁻⁵² · λ_max, which float64 cannot
    tell from 0. A kernel that is not finite gives NaN, not an exception.

    Raises:
        TypeError: the kernel is not a floating-point tensor or array.
        ValueError: the kernel is not square, is empty or is not symmetric.
    """
    return spectra([float64_kernel(kernel)])[0]


def eigensystem(kernel: Float64[Tensor, "side side"]) -> tuple[Spectrum, Float64[np.ndarray, "side side"]]:
    """Spectrum and eigenvectors of a kernel that ``float64_kernel`` made.

    Returns:
        The spectrum as ``spectrum`` has it, up to rounding (another solver), and the unit eigenvectors as columns in
        the same order. An eigenvector's sign is arbitrary: the component of largest magnitude (the first of equals)
        is made positive. Within equal eigenvalues, the clipped ones too, the basis is the solver's. NaN throughout
        where the kernel is not finite.
    """
    side = len(kernel)
    if not is_finite(kernel):
        return _undefined(side), np.full((side, side), np.nan)
    raw, vectors = eigensolvers.eigensystem(kernel)
    vectors = vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], axis=0)
    return _clipped(raw), vectors * np.where(largest < 0, -1.0, 1.0)


def spectra(matrices: list[Float64[Tensor, "side side"]]) -> list[Spectrum]:
    """``spectrum`` of each of some kernels that ``float64_kernel`` made, of one side and solved together.

    One that is not finite gives NaN for itself alone.
    """
    defined = [is_finite(matrix) for matrix in matrices]
    finite = list(itertools.compress(matrices, defined))
    if not finite:
        return [_undefined(len(matrix)) for matrix in matrices]
    solved = iter(eigensolvers.eigenvalues(torch.stack(finite) if len(finite) > 1 else finite[0][None]))
    return [_clipped(next(solved)) if good else _undefined(len(m)) for good, m in zip(defined, matrices, strict=True)]


def is_finite(matrix: Tensor) -> bool:
    """Whether no entry is NaN or infinite: least and most tell, in a fifth of the time that looking at each takes."""
    return all(bool(torch.isfinite(entry)) for entry in matrix.aminmax())


def _clipped(raw: Float64[np.ndarray, " side"]) -> Spectrum:
    """From eigenvalues in ascending order, as solvers give them."""
    total = float(np.abs(raw).sum())
    clipped_mass = float(-raw[raw < 0].sum()) / total if total > 0 else 0.0
    threshold = len(raw) * np.finfo(np.float64).eps * max(float(raw[-1]), 0.0)
    return Spectrum(np.where(raw > threshold, raw, 0.0)[::-1].copy(), clipped_mass)


def _undefined(side: int) -> Spectrum:
    return Spectrum(np.full(side, np.nan), float("nan"))


def eigenvalues(kernel: Float[Tensor, "side side"] | Float[np.ndarray, "side side"]) -> Float64[np.ndarray, " side"]:
    """Eigenvalues of a symmetric kernel, descending, clipped to ≥ 0: ``spectrum(kernel).eigenvalues``."""
    return spectrum(kernel).eigenvalues


def float64_kernel(kernel: Tensor | np.ndarray) -> Float64[Tensor, "side side"]:
    """The kernel as an exactly symmetric float64 tensor on its own device.

    Raises:
        TypeError: the kernel is not a floating-point tensor or array.
        ValueError: the kernel is not square, is empty or is not symmetric.
    """
    if not isinstance(kernel, (Tensor, np.ndarray)):
        raise TypeError(f"the kernel is a {type(kernel).__name__}, expected a tensor or array [side, side]: convert it")
    matrix = torch.as_tensor(kernel).detach()
    if not matrix.is_floating_point():
        raise TypeError(f"the kernel has dtype {matrix.dtype}, expected a floating-point one: convert it to float64")
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) == 0:
        raise ValueError(
            f"the kernel has shape {list(matrix.shape)}, expected a square [side, side]: flatten an [N, O, N, O] one "
            "with reshape(N * O, N * O)"
        )
    asymmetry = float((matrix - matrix.T).max())  # of the difference both signs occur
    least, most = (float(entry) for entry in matrix.aminmax())
    # Written so that a kernel with NaN passes: it has no symmetry to check, and gives NaN later.
    if asymmetry > SYMMETRY_TOLERANCE * max(-least, most):
        raise ValueError(
            f"the kernel differs from its transpose by up to {asymmetry:.3g}, expected a symmetric one: "
            "a kernel between two different sets of points has no spectrum"
        )
    matrix = matrix.to(torch.float64)
    return matrix if asymmetry == 0 else matrix / 2 + matrix.T / 2
