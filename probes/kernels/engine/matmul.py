"""Products of matrices given by their rows, left · rightᵀ, draw by draw."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from tangentscope.probes.hardware import mkl_is_at_home

LONG = 1024
"""Numbers in a row from which on oneDNN, where it is ahead, makes up for the longer way to it."""


def of_rows(left: Float[Tensor, "draws m w"], right: Float[Tensor, "draws n w"]) -> Float[Tensor, "draws m n"]:
    """By torch."""
    if len(left) == 1:
        return (left[0] @ right[0].T)[None]  # a batch of one is slower
    return torch.bmm(left, right.transpose(1, 2))


def of_long_rows(left: Float[Tensor, "draws m w"], right: Float[Tensor, "draws n w"]) -> Float[Tensor, "draws m n"]:
    """The same by oneDNN where that is faster: on an AMD EPYC a tenth for rows of 6,000, with one thread or two.

    It makes machine code for every shape anew, in up to a millisecond, and is therefore not for shapes that vary.
    """
    plain = left.device.type == "cpu" and left.dtype == torch.float32 and left.is_contiguous() and right.is_contiguous()
    if len(left) > 1 or not plain or left.shape[-1] < LONG or not _onednn_is_ahead():
        return of_rows(left, right)
    return torch.ops.mkldnn._linear_pointwise(left[0], right[0], None, "none", [], "")[None]


@cache
def _onednn_is_ahead() -> bool:
    """Whether torch has oneDNN, with the operation that leads to it, and MKL is not where it is fastest.

    The operation is one of torch's own (its compiler's); no public one gives oneDNN a product in full precision.
    """
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return there and not mkl_is_at_home()
