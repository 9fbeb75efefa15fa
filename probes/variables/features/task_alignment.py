"""Alignment of the features with the task."""

from jaxtyping import Float64
from torch import Tensor
from torch.linalg import matrix_norm

from tangentscope.probes.variables.features.quantities import Sample, UndefinedError
from tangentscope.probes.variables.variable import Variable


def task_alignment(sample: Sample, target_space: Float64[Tensor, "q dim"]) -> float:
    """⟨T, P_H*⟩_F/(‖T‖_F ‖P_H*‖_F) on held-out points, in [0, 1]; 1 where T is a projection on the target space.

    It sums ρ_k Q*_k: large where strong features are useful ones. For the curve over k: ``quality_cumulative``.
    """
    return _alignment(sample.features, target_space)


def task_alignment_centred(
    sample: Sample, centred_features: Float64[Tensor, "q p"], target_space: Float64[Tensor, "q dim"]
) -> float:
    """The same of centred operators, CKA(T, P_H*): the constant, of which most features have much, falls out."""
    space = sample.centred(target_space)
    if matrix_norm(space) <= 1e-12 * matrix_norm(target_space):
        raise UndefinedError("the targets are the same for all held-out data points")
    return _alignment(centred_features, space)


def _alignment(features: Tensor, space: Tensor) -> float:
    overlap = matrix_norm(features.T @ space) ** 2
    return float(overlap / matrix_norm(features.T @ features) / matrix_norm(space.T @ space))


SOURCE = "Nam §1.6.1 with eq. 2.9's form; Canatar et al. 2021"
PLAIN = Variable("task_alignment", version=1, source=SOURCE, compute=task_alignment)
CENTRED = Variable("task_alignment_centred", version=1, source=SOURCE, compute=task_alignment_centred)
