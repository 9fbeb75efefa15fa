"""What is wrong with a network or its inputs, said before any work starts."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from probes.kernels.batch import Batch


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters with requires_grad, by name.

    Raises:
        ValueError: there are none, or parameters lie on several devices.
        TypeError: one is not real.
    """
    name = type(model).__name__
    parameters = dict(model.named_parameters())
    if any(isinstance(parameter, nn.UninitializedParameter) for parameter in parameters.values()):
        raise ValueError(f"{name} has lazy layers without parameters yet: call it once on some inputs before")
    trainable = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    if not trainable:
        raise ValueError(f"{name} has no trainable parameters, expected at least one: set requires_grad on some")
    devices = {str(device) for device in {parameter.device for parameter in parameters.values()}}
    if len(devices) > 1:
        raise ValueError(
            f"{name} lies on {', '.join(sorted(devices))}, expected one device: move it with model.to(device)"
        )
    for name, parameter in trainable.items():
        if not parameter.is_floating_point():
            raise TypeError(f"parameter {name} is not real: kernels are defined for real parameters, freeze it")
    return trainable


def check_devices(model: nn.Module, device: torch.device, batches: Mapping[str, Batch]) -> None:
    """ValueError unless all inputs are on the model's device."""
    for name, batch in batches.items():
        if batch.device != device:
            raise ValueError(
                f"{name} are on {batch.device} and {type(model).__name__} on {device}: "
                f"move them with {name}.to({str(device)!r})"
            )


def check_alike(inputs: Batch, others: Batch) -> None:
    """TypeError unless both are tensors of one dtype, or both graphs."""
    if type(inputs) is not type(others):
        raise TypeError(
            f"others are a {type(others.data).__name__} and inputs a {type(inputs.data).__name__}, "
            "expected two of a kind: convert one of them"
        )
    if isinstance(inputs.data, Tensor) and inputs.data.dtype != others.data.dtype:
        raise TypeError(
            f"others are {others.data.dtype} and inputs {inputs.data.dtype}, expected one dtype: convert one of them"
        )


def check_layers(model: nn.Module) -> None:
    """ValueError if some layer is no fixed function of single points even in eval mode."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"{type(module).__name__} {name!r} has no running statistics, so that outputs depend on the whole "
                "batch, expected outputs of single points: use track_running_stats=True"
            )
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None:
            raise ValueError(
                f"{type(module).__name__} {name!r} has max_norm, which rewrites its weight whenever it is called, "
                "expected a fixed function: rescale the weight once and set max_norm=None"
            )
