"""Forward passes of a network whose graph shows the parameters that are wanted, whatever its user trains."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tangentscope.probes.kernels.engine.buffer_pool import keep_freed_memory
from tangentscope.probes.kernels.gradients.observation import NoDependenceError, check_apart, check_shape, outputs_alone
from tangentscope.probes.network.batch import Batch
from tangentscope.probes.network.checks import check_devices, check_layers, check_level, check_model, check_numbers
from tangentscope.probes.network.deterministic import deterministic, run_watched
from tangentscope.probes.network.function import Function
from tangentscope.probes.network.layers import Anatomy
from tangentscope.probes.network.output import Output


def checked_batch(model: nn.Module, inputs: Any, output: Output) -> tuple[Batch, torch.device]:
    """The data points, and where they and the network are.

    Raises:
        TypeError, ValueError: as for ``tangent_kernel``.
    """
    check_model(model)
    check_numbers(model)
    batch = Function(model, output).batch(inputs)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    check_devices(model, device, {"inputs": batch})
    if device.type == "cpu":
        keep_freed_memory()
    return batch, device


@contextmanager
def deterministic_with(
    model: nn.Module, device: torch.device, wanted: Callable[[nn.Parameter], bool]
) -> Iterator[Anatomy]:
    """Inside, the network is a deterministic function, and the parameters that are wanted need gradients, no others."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters() if parameter.is_leaf]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(parameter.is_floating_point() and wanted(parameter))
        # TorchScript's optimised graphs would hide which operation used which parameter.
        plainly = torch.jit.optimized_execution(False)  # pyright: ignore[reportPrivateImportUsage]
        with _without_gradient_hooks(model), deterministic(model, device), plainly:
            check_layers(model)
            yield Anatomy.of(model)
    finally:
        for parameter, needed in before:
            parameter.requires_grad_(needed)


@contextmanager
def _without_gradient_hooks(model: nn.Module) -> Iterator[None]:
    """Modules have no hooks on their gradients, which would be called by passes of ours, and hide layers."""
    held = [(vars(module), name) for module in model.modules() for name in ("_backward_hooks", "_backward_pre_hooks")]
    hooks = [(attributes, name, attributes[name]) for attributes, name in held if attributes.get(name)]
    try:
        for attributes, name, hooked in hooks:
            attributes[name] = type(hooked)()
        yield
    finally:
        for attributes, name, hooked in hooks:
            attributes[name] = hooked


def outputs_of(anatomy: Anatomy, batch: Batch) -> Tensor:
    """[N, O], with their graph.

    Raises:
        TypeError, ValueError: they are no floating-point tensor [N, ...] that depends on parameters.
    """
    returned = run_watched(anatomy.modules, batch)[0]
    if isinstance(returned, Tensor):
        check_level(batch, returned)
    outputs = check_shape(returned, len(batch))
    if not outputs.requires_grad:
        raise NoDependenceError
    return outputs if outputs.dim() == 2 else outputs.reshape(len(batch), -1)


def few_outputs(anatomy: Anatomy, batch: Batch) -> tuple[Batch, Tensor]:
    """Two data points that cost as much as any, and their outputs [2, O], once it is clear that they do not mix.

    Raises:
        TypeError, ValueError: as ``outputs_of``; they mix.
    """
    few = batch.sample(2)
    outputs = outputs_of(anatomy, few)
    for point in range(len(few)) if len(few) > 1 else ():
        check_apart(anatomy, few, point, outputs, outputs_alone(anatomy, few, point))
    return few, outputs
