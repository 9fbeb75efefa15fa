"""What variables may ask for beside the kernel: labels, residuals and curvatures of the loss at the data points."""

from collections.abc import Callable, Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, jacrev, vmap

from tangentscope.probes.kernels.engine.memory import ceiling, saved_bytes
from tangentscope.probes.kernels.gradients.observation import check_shape
from tangentscope.probes.network.batch import Batch
from tangentscope.probes.network.checks import check_devices, check_level, check_model, check_numbers
from tangentscope.probes.network.deterministic import deterministic
from tangentscope.probes.network.function import Function
from tangentscope.probes.network.output import Output

Loss = Callable[[Tensor, Tensor], Tensor]
"""Loss of a batch from outputs [n, ...] and targets [n, ...]; it is called with one point, so that a mean is a sum."""

OF_POINTS = frozenset({"labels", "classes", "residual", "output_hessian"})
"""The givens that have a row for each data point."""


def givens_at(
    model: nn.Module,
    inputs: Any,
    targets: Tensor,
    loss: Loss | None,
    wanted: Collection[str],
    *,
    output: Output = None,
    memory_bytes: int | None = None,
) -> dict[str, Tensor]:
    """Those of ``wanted`` that targets and loss can give, for all points of ``inputs``.

    Args:
        model: as for ``tangent_kernel``; left as it was.
        inputs: M data points, as for ``tangent_kernel``.
        targets: [M] classes, [M, ...] classes of several positions (negative ones count as none), or [M, ...] numbers
            (NaN where there is none; a loss that knows so has residuals and curvatures of 0 there).
        loss: needed for ``residual`` and ``output_hessian``.
        wanted: names out of ``OF_POINTS``.
        output: which of what the model returns is its output, as for ``tangent_kernel``.
        memory_bytes: bound on what forward passes keep at a time, by default a quarter of what is free.

    Returns:
        By name, in float64: labels [M, O], one-hot for classes, 0 where there is none; classes [M] if every point has
        one; residual [M, O], r = ∂L/∂f of the loss L summed over points; output_hessian [M, O, O], ∂²L/∂f∂f of each
        point.

    Raises:
        ValueError: targets that do not fit the outputs; outputs that are not [M, ...]; a model or inputs that
            ``tangent_kernel`` refuses.
        TypeError: as for ``tangent_kernel``.
    """
    outputs = _outputs(model, Function(model, output).batch(inputs), memory_bytes).double()
    targets = targets.to(outputs.device)
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


def outputs_of(model: nn.Module, inputs: Any, output: Output = None) -> int:
    """O, the numbers that the network puts out for a data point; errors as for ``givens_at``."""
    return _outputs(model, Function(model, output).batch(inputs).sample(1), None).numel()


def _outputs(model: nn.Module, batch: Batch, memory_bytes: int | None) -> Tensor:
    """Outputs [M, ...] without their graph.

    Gradients are on, since a forward may take some itself; as many points pass at a time as the graphs have room for.
    """
    check_model(model)
    check_numbers(model)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    check_devices(model, device, {"inputs": batch})
    with deterministic(model, device):
        if len(batch) == 1:
            return _checked(batch, model)
        each = max(1, ceiling(memory_bytes, device) // (saved_bytes(model, batch.sample(1)) + 1))
        if each >= len(batch):
            return _checked(batch, model)
        places = torch.arange(len(batch)).split(each)
        return torch.cat([_checked(batch.take(place), model) for place in places])


def _checked(batch: Batch, model: nn.Module) -> Tensor:
    found = batch.run(model).detach()
    check_level(batch, found)
    return check_shape(found, len(batch))


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
