"""What variables may ask for beside the kernel: labels, residuals and curvatures of the loss at the data points."""

from collections.abc import Callable, Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, jacrev, vmap

from probes.kernels.batch import as_batch
from probes.kernels.observe import deterministic

Loss = Callable[[Tensor, Tensor], Tensor]
"""Loss of a batch from outputs [n, ...] and targets [n, ...]; it is called with one point, so that a mean is a sum."""

OF_POINTS = frozenset({"labels", "classes", "residual", "output_hessian"})
"""The givens that have a row for each data point."""


def givens_at(
    model: nn.Module, inputs: Any, targets: Tensor, loss: Loss | None, wanted: Collection[str]
) -> dict[str, Tensor]:
    """Those of ``wanted`` that targets and loss can give, for all points of ``inputs``.

    Args:
        model: as for ``tangent_kernel``; left as it was.
        inputs: M data points.
        targets: [M] classes, [M, ...] classes of several positions (negative ones count as none), or [M, ...] numbers
            (NaN where there is none; a loss that knows so has residuals and curvatures of 0 there).
        loss: needed for ``residual`` and ``output_hessian``.
        wanted: names out of ``OF_POINTS``.

    Returns:
        By name, in float64: labels [M, O], one-hot for classes, 0 where there is none; classes [M] if every point has
        one; residual [M, O], r = ∂L/∂f of the loss L summed over points; output_hessian [M, O, O], ∂²L/∂f∂f of each
        point.

    Raises:
        ValueError: targets that do not fit the outputs.
    """
    batch = as_batch(inputs)
    device = next(model.parameters()).device
    with deterministic(model, device), torch.no_grad():
        outputs = batch.run(model).double()
    targets = targets.to(device)
    found: dict[str, Tensor] = {}
    if "labels" in wanted:
        found["labels"] = _labels(outputs, targets)
    if "classes" in wanted and not targets.is_floating_point() and targets.dim() == 1:
        found["classes"] = targets.long()
    if loss is None:
        return found

    def of_one(output: Tensor, target: Tensor) -> Tensor:
        return loss(output[None], target[None]).sum()

    M, width = len(outputs), outputs[0].numel()
    targets = targets.double() if targets.is_floating_point() else targets
    if "residual" in wanted:
        found["residual"] = vmap(grad(of_one))(outputs, targets).reshape(M, width)
    if "output_hessian" in wanted:
        found["output_hessian"] = vmap(jacrev(grad(of_one)))(outputs, targets).reshape(M, width, width)
    return found


def outputs_of(model: nn.Module, inputs: Any) -> int:
    """O, the numbers that the network puts out for a data point."""
    batch = as_batch(inputs).sample()
    with deterministic(model, next(model.parameters()).device), torch.no_grad():
        return batch.run(model).numel() // len(batch)


def _labels(outputs: Tensor, targets: Tensor) -> Tensor:
    if not targets.is_floating_point() and targets.shape == outputs.shape[:-1]:
        if int(targets.max()) >= outputs.shape[-1]:
            raise ValueError(f"target {int(targets.max())} is no class of {outputs.shape[-1]}: classes begin at 0")
        one_hot = F.one_hot(targets.clamp(min=0).long(), outputs.shape[-1]).double()
        return (one_hot * (targets >= 0)[..., None]).flatten(1)
    if targets.numel() != outputs.numel():
        raise ValueError(
            f"targets of shape {list(targets.shape)} do not fit outputs of shape {list(outputs.shape)}: "
            "pass class numbers for all but the last dimension, or as many numbers as there are outputs"
        )
    return torch.where(targets.isnan(), 0.0, targets.double()).reshape(len(outputs), -1)
