"""What is wrong with a network or its inputs, said before any work starts."""

import functools
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from tangentscope.probes.network.batch import Batch, TensorBatch
from tangentscope.probes.network.structure import tensors_of

Chosen = str | Iterable[str] | Callable[[str, nn.Parameter], bool] | None
"""Parameters that count: those whose names match a glob or one of several, or for which a function says so."""


def check_model(model: Any) -> None:
    """TypeError unless it is a module."""
    if isinstance(model, nn.Module):
        return
    if isinstance(model, type):
        got, mend = f"the class {model.__name__}", "pass an instance of it"
    elif isinstance(model, functools.partial):
        got = "a functools.partial"
        mend = "pass what it wraps, and the arguments it fixes as constants in a dict of inputs"
    elif isinstance(getattr(model, "__self__", None), nn.Module):
        owner = type(model.__self__).__name__
        got, mend = (
            f"a method of {owner}",
            f"pass the {owner}, or make the method the forward of a module that holds it",
        )
    else:
        got = f"a {type(model).__name__}"
        mend = "make it the forward of a module that holds the networks it calls as attributes"
    raise TypeError(f"the model is {got}, expected a torch.nn.Module: {mend}")


def trainable_parameters(model: nn.Module, chosen: Chosen = None) -> dict[str, nn.Parameter]:
    """The parameters with requires_grad, or those of them that are ``chosen``, by name.

    Raises:
        ValueError: there are none, a glob matches none, or parameters lie on several devices.
        TypeError: one is not real, or sparse; ``model`` is no module.
    """
    check_model(model)
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
    trainable = _chosen(model, trainable, chosen)
    for name, parameter in trainable.items():
        if not parameter.is_floating_point():
            raise TypeError(f"parameter {name} is not real: kernels are defined for real parameters, freeze it")
        if parameter.layout != torch.strided:
            raise TypeError(
                f"parameter {name} is a sparse tensor, expected a dense one: make its values the parameter and build "
                "the sparse tensor of them in forward, or freeze it"
            )
    return trainable


def _chosen(model: nn.Module, trainable: dict[str, nn.Parameter], chosen: Chosen) -> dict[str, nn.Parameter]:
    if chosen is None:
        return trainable
    if callable(chosen):
        found = {name: parameter for name, parameter in trainable.items() if chosen(name, parameter)}
        if not found:
            raise ValueError(
                f"parameters= is a function that takes none of {type(model).__name__}'s trainable parameters, expected "
                f"at least one: choose among {_some(trainable)}"
            )
        return found
    globs = [chosen] if isinstance(chosen, str) else list(chosen)
    if not globs or not all(isinstance(glob, str) for glob in globs):
        raise TypeError(
            f"parameters={chosen!r}, expected a glob of names, several, or a function of name and parameter: "
            f"choose among {_some(trainable)}"
        )
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in trainable):
            raise ValueError(f"parameters={glob!r} matches no trainable parameter, {_nearest(model, trainable, glob)}")
    return {name: p for name, p in trainable.items() if any(fnmatchcase(name, glob) for glob in globs)}


def _nearest(model: nn.Module, trainable: dict[str, nn.Parameter], glob: str) -> str:
    """What was expected instead of a glob that matches nothing."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if fnmatchcase(name, glob):
            if not parameter.requires_grad:
                return f"expected one with requires_grad, which {name} lacks: set it, or choose {_some(trainable)}"
            return f"expected the first name of tied ones: pass {first[id(parameter)]!r} for {name}"
    if any(name.startswith(f"{glob}.") for name in trainable):
        return f"expected names of parameters: pass '{glob}.*' for all of the module"
    near = get_close_matches(glob, trainable, n=3, cutoff=0.4)
    return f"expected names such as {', '.join(near) if near else _some(trainable)}: see model.named_parameters()"


def _some(trainable: Mapping[str, nn.Parameter]) -> str:
    names = list(trainable)
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def check_numbers(model: nn.Module) -> None:
    """ValueError if the parameters have shapes alone, or are such as can have no gradients."""
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError(
            f"{type(model).__name__} lies on the meta device and has no numbers, expected loaded weights: give it "
            "memory with model.to_empty(device='cpu') and load its weights"
        )
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError(
            f"{type(model).__name__} was made in inference mode, and its parameters can have no gradients: build it "
            "outside of torch.inference_mode()"
        )


def check_devices(model: nn.Module, device: torch.device, batches: Mapping[str, Batch]) -> None:
    """ValueError unless all inputs are on the model's device."""
    for name, batch in batches.items():
        for label, place in batch.devices.items():
            if place != device:
                raise ValueError(
                    f"{name}{label} are on {place} and {type(model).__name__} on {device}: "
                    f"move them with {name}{label}.to({str(device)!r})"
                )


def check_alike(inputs: Batch, others: Batch) -> None:
    """TypeError unless both are graphs, or tensors of one dtype in structures of one kind."""
    if type(inputs) is not type(others) or isinstance(inputs.data, Tensor) != isinstance(others.data, Tensor):
        raise TypeError(
            f"others are a {type(others.data).__name__} and inputs a {type(inputs.data).__name__}, "
            "expected two of a kind: convert one of them"
        )
    if not isinstance(inputs, TensorBatch):
        return
    ours, theirs = tensors_of(inputs.data), tensors_of(others.data)
    for label in ours | theirs:
        if label not in ours or label not in theirs or bool(ours[label].dim()) != bool(theirs[label].dim()):
            raise TypeError(
                f"inputs{label} are {_told(ours.get(label))} and others{label} {_told(theirs.get(label))}, expected "
                "the same structure: give both the same tensors"
            )
        if ours[label].dtype != theirs[label].dtype:
            raise TypeError(
                f"others{label} are {theirs[label].dtype} and inputs{label} {ours[label].dtype}, expected one dtype: "
                "convert one of them"
            )


def _told(tensor: Tensor | None) -> str:
    return "no tensor" if tensor is None else "a tensor with rows" if tensor.dim() else "a tensor without dimensions"


def check_level(batch: Batch, outputs: Tensor) -> None:
    """ValueError if outputs have a row for each node or edge of graphs."""
    if outputs.dim() and (level := batch.level(len(outputs))):
        raise ValueError(
            f"the model's outputs have shape {list(outputs.shape)} for {len(batch)} inputs, a row for each {level}, "
            f"expected one for each graph: pool them, as torch_geometric.nn.global_add_pool(rows, batch.batch) does, "
            f"or pass one graph for each {level}"
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
