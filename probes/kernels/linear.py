"""Linear layers on one row per data point: Θ += (A Aᵀ + 1_bias) ∘ (B Bᵀ).

With y = A Wᵀ + b and B the gradient of an output at y, the gradient at W is the outer product B ⊗ A and the one at b
is B, so that inner products of gradients factorise (T = 1 rows; N²(d_i + O² d_o) multiply-adds).
"""

from jaxtyping import Float
from torch import Tensor, nn

STRIPES = 8
"""Stripes of data points in which the symmetric product is formed: saves 7/16 of it and keeps temporaries small."""


def applies(module: nn.Module, inputs: Tensor, outputs_shape: tuple[int, ...]) -> bool:
    """One row per point, and no parameters but the layer's own (weight_norm and pruning bring others)."""
    names = {name for name, _ in module.named_parameters(recurse=False)}
    return inputs.dim() == 2 and len(outputs_shape) == 2 and names <= {"weight", "bias"}


def add_kernel(
    kernel: Float[Tensor, "N R N R"],
    module: nn.Module,
    inputs: Float[Tensor, "N d_i"],
    gradients: Float[Tensor, "N R C d_o"],
) -> None:
    """Add the layer's share to the upper triangle of ``kernel``, in place."""
    points, rows = kernel.shape[:2]
    trainable = {name for name, parameter in module.named_parameters(recurse=False) if parameter.requires_grad}
    A = inputs.to(kernel.dtype)
    B = gradients.to(kernel.dtype).reshape(points * rows, -1)
    gram = A @ A.T if "weight" in trainable else A.new_zeros(points, points)
    if "bias" in trainable:
        gram = gram + 1

    stripe = -(-points // STRIPES)
    for start in range(0, points, stripe):
        stop = min(start + stripe, points)
        products = B[start * rows : stop * rows] @ B[start * rows :].T
        kernel[start:stop, :, start:].addcmul_(
            products.view(stop - start, rows, points - start, rows), gram[start:stop, None, start:, None]
        )
