"""A made-up kernel with all that variables can be given beside it."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

N, O, P = 6, 3, 40  # noqa: E741
LAYERS = 5


def case(outputs: str = "full", points: int = N, width: int = O, seed: int = 0) -> tuple[Tensor, dict[str, Any]]:
    """The kernel of a made-up Jacobian, and all that can be given with it."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    J = normal(points, width, P) + 0.5
    kernels = [as_treated(J + drift * normal(*J.shape), outputs) for drift in (0.0, 0.1, 0.5)]
    classes = torch.arange(points) % max(width, 2)
    labels = torch.nn.functional.one_hot(classes, width).double() if width > 1 else normal(points, 1)
    p = normal(points, width).softmax(-1)
    residual = p - labels if width > 1 else normal(points, 1)
    hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :] if width > 1 else torch.ones(points, 1, 1).double()
    return kernels[0], {
        "outputs": outputs,
        "labels": labels,
        "classes": classes,
        "residual": residual,
        "output_hessian": hessian,
        "previous_kernel": kernels[1],
        "initial_kernel": kernels[2],
        "layer_parts": normal(LAYERS).square(),
        "step": 8,
        "previous_step": 4,
    }


def as_treated(J: Tensor, outputs: str) -> Tensor:
    if outputs == "full":
        J = J.flatten(0, 1)
    elif outputs == "summed":
        J = J.sum(1) / math.sqrt(J.shape[1])
    else:
        J = J.flatten(1) / math.sqrt(J.shape[1])
    return J @ J.T


def assert_same(found: dict[str, Any], expected: dict[str, Any], rel: float = 1e-7) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rel, atol=rel, err_msg=name)
