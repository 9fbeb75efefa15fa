"""Centred alignment of the kernel with the labels."""

from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.formulas import alignment, normalised
from tangentscope.probes.variables.variable import Variable


def label_alignment_centred(
    centred_kernel: Float64[Tensor, "side side"], centred_label_vectors: Float64[Tensor, "side columns"]
) -> float:
    """CKA(Θ, YYᵀ), in [0, 1]; NaN where all points are alike to the kernel or have one label.

    As ``label_alignment`` with C = (1 − 11ᵀ/N) ⊗ 1 on both: each logit's mean over the points is taken away.
    """
    return alignment(normalised(centred_kernel), centred_label_vectors)


VARIABLE = Variable(
    "label_alignment_centred", version=1, source="Cortes 2012, Baratin 2021", compute=label_alignment_centred
)
