"""Kernels by their definition, one gradient at a time, and what tests do with kernels and inputs."""

import re
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.utils.prune
from torch import Tensor, nn
from torch_geometric.data import Batch

Inputs = Tensor | Batch

TREATMENTS = ("full", "traced", "summed")

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Of `relative_error`, for kernels in this precision."""


# Brute force


def jacobian(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """The definition, one gradient at a time: by parameter, ∂f_a(x_n)/∂θ as [N, O, its size]."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    was_training = model.training
    model.eval()
    rows: dict[str, list[Tensor]] = {name: [] for name in parameters}
    for n in range(count(inputs)):
        for value in model(take(inputs, [n])).reshape(-1):
            found = torch.autograd.grad(
                value, list(parameters.values()), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for name, gradient in zip(parameters, found, strict=True):
                rows[name].append((gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1))
    model.train(was_training)
    return {name: torch.stack(row).unflatten(0, (count(inputs), -1)) for name, row in rows.items()}


def contract(J: Tensor, outputs: str) -> Tensor:
    """The kernel of a Jacobian [N, O, P], the outputs treated as asked."""
    theta = torch.einsum("iap,jbp->iajb", J, J)
    if outputs == "traced":
        return torch.einsum("iaja->ij", theta) / theta.shape[1]
    if outputs == "summed":
        return theta.sum((1, 3)) / theta.shape[1]
    return theta.flatten(2).flatten(0, 1)


def brute_force_kernel(model: nn.Module, inputs: Inputs, outputs: str) -> Tensor:
    return contract(torch.cat(list(jacobian(model, inputs).values()), 2), outputs)


def relative_error(kernel: Tensor, reference: Tensor) -> float:
    reference = reference.double()
    return float((kernel.double() - reference).abs().max() / reference.abs().max())


def block(kernel: Tensor, points: int, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """What the kernel of all points holds for ``rows`` against ``columns``, both of them points."""
    blocks = kernel.unflatten(1, (points, -1)).unflatten(0, (points, -1))
    return blocks[list(rows)][:, :, list(columns)].flatten(2).flatten(0, 1)


def least_memory(call: Callable[..., object]) -> int:
    """The bytes that ``call`` asks for at least, as it says when it is given one."""
    with pytest.raises(ValueError, match=r"memory_bytes=1\b.*at least [\d_,]+") as caught:
        call(memory_bytes=1)
    return int(re.sub("[_,]", "", re.search(r"at least ([\d_,]*\d)", str(caught.value))[1]))


# Inputs: tensors whose first axis is the points, or batches of graphs


def count(inputs: Inputs) -> int:
    return len(inputs) if isinstance(inputs, Tensor) else inputs.num_graphs


def take(inputs: Inputs, points: Sequence[int]) -> Inputs:
    if isinstance(inputs, Tensor):
        return inputs[list(points)]
    return Batch.from_data_list([inputs[i] for i in points])


def cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    if isinstance(inputs, Tensor):
        return inputs.to(dtype) if inputs.is_floating_point() else inputs
    return inputs.clone().apply(lambda value: cast(value, dtype))


def tokens(below: int, *shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(below, shape)
