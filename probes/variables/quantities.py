"""What variables share of a kernel, computed once for all who ask. Argument names say what each is computed from.

Shapes: N points, R rows of the kernel per point (O for a full kernel, else 1), side = N·R, O outputs per point.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from tangentscope.probes.spectra.exact import Spectrum
from tangentscope.probes.spectra.exact import eigensystem as eigensystem_of
from tangentscope.probes.spectra.exact import spectrum as spectrum_of
from tangentscope.probes.variables.formulas import cosine_distance, normalised, ratio, shannon_entropy


def spectrum(kernel: Float64[Tensor, "side side"]) -> Spectrum:
    """Eigenvalues with their clipped mass."""
    return spectrum_of(kernel)


def eigensystem(kernel: Float64[Tensor, "side side"]) -> tuple[Spectrum, Float64[np.ndarray, "side side"]]:
    """Spectrum and eigenvectors of one solution; where it is wanted, ``evaluate`` takes the spectrum from it too."""
    return eigensystem_of(kernel)


def eigenvalues(spectrum: Spectrum) -> Float64[np.ndarray, " side"]:
    """Descending, clipped to ≥ 0."""
    return spectrum.eigenvalues


def eigenvectors(
    eigensystem: tuple[Spectrum, Float64[np.ndarray, "side side"]],
) -> Float64[np.ndarray, "side side"]:
    """Unit columns in the order of the eigenvalues, the component of largest magnitude positive."""
    return eigensystem[1]


def initial_eigenvectors(initial_kernel: Float64[Tensor, "side side"]) -> Float64[np.ndarray, "side side"]:
    """As ``eigenvectors``, of Θ_0."""
    return eigensystem_of(initial_kernel)[1]


def previous_eigenvectors(previous_kernel: Float64[Tensor, "side side"]) -> Float64[np.ndarray, "side side"]:
    """As ``eigenvectors``, of the kernel measured before."""
    return eigensystem_of(previous_kernel)[1]


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


def unit_kernel(kernel: Float64[Tensor, "side side"]) -> Float64[Tensor, "side side"]:
    """Θ/‖Θ‖_F."""
    return normalised(kernel)


def previous_distance(
    unit_kernel: Float64[Tensor, "side side"], previous_kernel: Float64[Tensor, "side side"]
) -> float:
    """1 − cos between Θ and the kernel measured before."""
    return cosine_distance(unit_kernel, normalised(previous_kernel))


def misalignment_rank(cosine_eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """n of BSC eq. 17: exp of Θ̂'s entropy, rounded (half to even); in 1..side, NaN where it is undefined."""
    rank = math.exp(shannon_entropy(cosine_eigenvalues))
    return rank if math.isnan(rank) else float(round(rank))


def block_kernel(kernel: Float64[Tensor, "side side"], points: int) -> Float64[Tensor, "N R N R"]:
    """The kernel by points and rows of a point."""
    rows = len(kernel) // points
    return kernel.reshape(points, rows, points, rows)


def point_blocks(block_kernel: Float64[Tensor, "N R N R"]) -> Float64[Tensor, "N R R"]:
    """Θ_ii: each point's kernel with itself."""
    return block_kernel.diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def point_kernel(block_kernel: Float64[Tensor, "N R N R"]) -> Float64[Tensor, "N N"]:
    """Σ_a Θ[ia, ja]: between points, the same logit on both sides."""
    return block_kernel.diagonal(dim1=1, dim2=3).sum(-1)


def centred_kernel(
    block_kernel: Float64[Tensor, "N R N R"], kernel: Float64[Tensor, "side side"]
) -> Float64[Tensor, "side side"]:
    """CΘC with C = (1 − 11ᵀ/N) ⊗ 1_R: each logit's mean gradient over the points taken away."""
    half = block_kernel - block_kernel.mean(0, keepdim=True)
    centred = (half - half.mean(2, keepdim=True)).reshape(kernel.shape)
    noise = len(kernel) * torch.finfo(kernel.dtype).eps * kernel.abs().max()
    if bool(centred.abs().max() <= noise):  # rounding of a kernel that does not tell points apart
        return torch.zeros_like(kernel)
    return centred / 2 + centred.T / 2


def centred_eigenvalues(centred_kernel: Float64[Tensor, "side side"]) -> Float64[np.ndarray, " side"]:
    """Eigenvalues of CΘC, descending, clipped to ≥ 0."""
    return spectrum_of(centred_kernel).eigenvalues


def label_vectors(
    labels: Float64[Tensor, "N O"], block_kernel: Float64[Tensor, "N R N R"]
) -> Float64[Tensor, "side columns"]:
    """L of the labels' kernel LLᵀ: vec(Y) for a full kernel, Y for one between points (traced, summed)."""
    return labels.reshape(-1, 1) if block_kernel.shape[1] > 1 else labels


def centred_label_vectors(
    labels: Float64[Tensor, "N O"], block_kernel: Float64[Tensor, "N R N R"]
) -> Float64[Tensor, "side columns"]:
    """As ``label_vectors``, of Y less its mean over the points."""
    return label_vectors(labels - labels.mean(0), block_kernel)


def projections(
    eigenvectors: Float64[np.ndarray, "side side"], residual: Float64[Tensor, "N O"]
) -> Float64[np.ndarray, " side"]:
    """c_k = ⟨v_k, r⟩."""
    return eigenvectors.T @ residual.reshape(-1).cpu().numpy()


def mode_weights(
    projections: Float64[np.ndarray, " side"], eigenvalues: Float64[np.ndarray, " side"]
) -> Float64[np.ndarray, " side"]:
    """c_k²; in the null space (λ_k = 0), which has no basis of its own, its mean over the null modes."""
    weights = projections**2
    null = eigenvalues == 0
    if null.any():
        weights[null] = weights[null].mean()
    return weights


def motion(kernel: Float64[Tensor, "side side"], residual: Float64[Tensor, "N O"]) -> Float64[Tensor, "N O"]:
    """Θr = −ḟ under gradient flow on L, a sum over points (CV eq. 5 with its sign)."""
    return (kernel @ residual.reshape(-1)).reshape(residual.shape)


def loss_rate(motion: Float64[Tensor, "N O"], residual: Float64[Tensor, "N O"]) -> float:
    """rᵀΘr = −dL/dt under gradient flow on L, a sum over points."""
    return float((motion * residual).sum())


@dataclass(frozen=True)
class ClassMeans:
    """Mean entries of a kernel, in its unit, by what the two points and the two logits share; NaN where none are.

    own: a point with itself, same logit; within, between: two different points of one class, of two classes, same
    logit; within_other, between_other: the same with two different logits.
    """

    own: float
    within: float
    between: float
    within_other: float
    between_other: float


def class_means(
    block_kernel: Float64[Tensor, "N R N R"], point_kernel: Float64[Tensor, "N N"], classes: Int64[Tensor, " N"]
) -> ClassMeans:
    """Mean entries within and between classes."""
    rows = block_kernel.shape[1]
    other = block_kernel.sum((1, 3)) - point_kernel
    same, different = class_pairs(classes)
    within, between = int(same.sum()), int(different.sum())
    return ClassMeans(
        own=float(point_kernel.diagonal().mean()) / rows,
        within=ratio(float(point_kernel[same].sum()), within * rows),
        between=ratio(float(point_kernel[different].sum()), between * rows),
        within_other=ratio(float(other[same].sum()), within * rows * (rows - 1)),
        between_other=ratio(float(other[different].sum()), between * rows * (rows - 1)),
    )


def class_pairs(classes: Int64[Tensor, " N"]) -> tuple[Tensor, Tensor]:
    """Masks [N, N] of the ordered pairs of two different points of one class, and of two classes."""
    same = classes[:, None] == classes[None, :]
    return same & ~torch.eye(len(classes), dtype=torch.bool, device=classes.device), ~same


_UNIT = 1e-6  # by how much probabilities that were taken in float32 may miss a sum of 1
_EPSILON = 2.0**-52  # of 1 − r a smaller probability cannot be told


def new_point_residual(residual: Float64[Tensor, "N O"], classes: Int64[Tensor, " N"]) -> Float64[Tensor, "N O"]:
    """r = p − q of each point under a made-up target q, at which the cross-entropy is ln C whatever the network.

    q mixes the network's likeliest and least likely of C classes. One has a probability p of 1/C or more and the other
    of 1/C or less, so that there is such a mixture for every p: −Σ_c q_c ln p_c = ln C. Without a loss to equal
    (p = 1/C everywhere) q is the least likely class. NaN with a single output, which has no classes.

    Raises:
        ValueError: residuals of another loss: those of a cross-entropy are p − y with y = 1 for a point's own class.
    """
    count = residual.shape[1]
    if count < 2 or not bool(torch.isfinite(residual).all()):
        return torch.full_like(residual, torch.nan)
    own = torch.zeros_like(residual).scatter_(1, classes[:, None], 1.0)
    p = torch.where(own > 0, (residual + own).clamp(min=_EPSILON), residual)
    if bool((p < -_UNIT).any()) or bool(((p.sum(1) - 1).abs() > _UNIT).any()):
        raise ValueError("a step at equal loss is defined for the cross-entropy of classes: leave it out for this loss")
    losses = -p.clamp(min=torch.finfo(p.dtype).tiny).log()
    (least, likeliest), (most, unlikeliest) = losses.min(1), losses.max(1)
    share = torch.where(most > least, (math.log(count) - least) / (most - least), 1.0).clamp(0, 1)
    q = torch.zeros_like(p).scatter_add_(1, likeliest[:, None], (1 - share)[:, None])
    return p - q.scatter_add_(1, unlikeliest[:, None], share[:, None])
