"""The engine: one forward pass, K backward passes, one rule per layer, per-sample Jacobians for the rest."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from probes.kernels.jacobian import add_jacobian_kernel
from probes.kernels.observe import LayerCall, deterministic, gradients_at, parameter_uses, watch
from probes.kernels.rules import RULES, Rule
from probes.kernels.treatment import OutputRows, OutputTreatment, check_treatment

DEFAULT_MEMORY_BYTES = 2**29


def tangent_kernel(
    model: nn.Module,
    inputs: Shaped[Tensor, "N ..."],
    outputs: OutputTreatment = "full",
    *,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> Float[Tensor, "side side"]:
    """Empirical neural tangent kernel Θ[(i,a),(j,b)] = Σ_p ∂f_a(x_i)/∂θ_p · ∂f_b(x_j)/∂θ_p (CV eq. 5, BSC eq. 6-7).

    Exact, symmetric, positive semi-definite up to rounding. Counts the parameters with requires_grad. The network is
    taken as a deterministic function: eval mode, autocast off; its train/eval state, gradients and hooks are left
    as they were, also on error.

    Args:
        model: any module whose outputs are [N, ...], row i a function of input i alone; further output dimensions are
            flattened into O.
        inputs: N data points, on the model's device.
        outputs: ``"full"`` → [N·O, N·O], point-major rows (i, a); ``"traced"`` → [N, N],
            Θ[i,j] = (1/O) Σ_a Θ[ia,ja]; ``"summed"`` → [N, N], the kernel of Σ_a f_a/√O (one backward pass).
        memory_bytes: bound on the per-sample Jacobians held at a time, for parameters that no layer rule covers. A
            smaller one costs more backward passes. The kernel itself and the network's activations come on top.

    Returns:
        The kernel, on the model's device, without gradient; float64 if the parameters are, else float32. Its unit is
        (output unit)² per (parameter unit)². Rows and columns of outputs that are not finite are NaN.

    Raises:
        TypeError: inputs or outputs are not (floating-point) tensors.
        ValueError: unknown ``outputs``; no data points; no trainable parameters, or outputs that do not depend on
            them; model and inputs on different devices; outputs not [N, ...]; outputs of one point that depend on
            the other points (batch statistics, or a batch dimension that is not the first).
    """
    check_treatment(outputs)
    _check_inputs(inputs)
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    device = _check_parameters(model, trainable, inputs)
    if memory_bytes <= 0:
        raise ValueError(f"memory_bytes={memory_bytes} is not positive: pass a number of bytes, such as 2**29")

    with deterministic(model, device):
        inputs = inputs.detach()
        if inputs.is_inference():
            inputs = inputs.clone()  # inference tensors cannot be saved for a backward pass
        layers = [module for module in model.modules() if type(module) in RULES]
        _check_normalisation(model)
        found, calls = watch(model, layers, inputs)
        network_outputs = _check_outputs(found, inputs)
        # The last point alone must behave as it does in the batch: catches mixing of points, at 1/N of a forward pass.
        calls_alone = _watch_alone(model, layers, inputs, network_outputs) if len(inputs) > 1 else calls

        rows = OutputRows(outputs, network_outputs.shape[1])
        ruled = _ruled_layers(layers, calls, calls_alone, network_outputs, len(inputs))
        functions = rows.of(network_outputs)
        gradients = gradients_at(functions, [calls[module][0] for module in ruled])
        kernel = _empty_kernel(trainable, len(inputs), rows, device)
        covered: set[int] = set()
        with torch.no_grad():
            for (module, rule), gradient in zip(ruled.items(), gradients, strict=True):
                shape = (len(inputs), rows.kept, rows.contracted, *gradient.shape[2:])
                rule.add_kernel(kernel, module, calls[module][0].inputs, gradient.view(shape))
                covered.update(id(parameter) for parameter in module.parameters(recurse=False))
        broken = ~torch.isfinite(functions.detach()).view(-1, rows.contracted).all(1)
        # Frees the graph, which the calls' edges keep too, before the Jacobians need room.
        del gradients, functions, network_outputs, found, calls, calls_alone

        remaining = {name: parameter for name, parameter in trainable.items() if id(parameter) not in covered}
        if remaining:
            add_jacobian_kernel(kernel, model, remaining, inputs, rows, memory_bytes)

    side = len(inputs) * rows.kept
    kernel = _mirror_upper(kernel.view(side, side))
    if bool(broken.any()):
        kernel[broken] = kernel[:, broken] = torch.nan  # gradients can be finite where the function is not
    return kernel


def _check_inputs(inputs: Any) -> None:
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"inputs are a {type(inputs).__name__}, expected a tensor [N, ...]: convert them with torch.as_tensor"
        )
    if inputs.dim() == 0:
        raise ValueError(
            "inputs have no batch dimension (shape []), expected [N, ...]: add one with inputs.unsqueeze(0)"
        )
    if len(inputs) == 0:
        raise ValueError(f"inputs hold no data points (shape {list(inputs.shape)}), expected N ≥ 1: pass at least one")


def _check_parameters(model: nn.Module, trainable: dict[str, nn.Parameter], inputs: Tensor) -> torch.device:
    name = type(model).__name__
    if not trainable:
        raise ValueError(f"{name} has no trainable parameters, expected at least one: set requires_grad on some")
    devices = {str(parameter.device) for parameter in model.parameters()}
    if len(devices) > 1:
        raise ValueError(
            f"{name} lies on {', '.join(sorted(devices))}, expected one device: move it with model.to(device)"
        )
    device = next(iter(trainable.values())).device
    if inputs.device != device:
        raise ValueError(
            f"inputs are on {inputs.device} and {name} on {device}: move them with inputs.to({str(device)!r})"
        )
    complex_names = [name for name, parameter in trainable.items() if not parameter.is_floating_point()]
    if complex_names:
        raise TypeError(f"parameter {complex_names[0]} is not real: kernels are defined for real parameters, freeze it")
    return device


def _check_outputs(found: Any, inputs: Tensor) -> Tensor:
    """The network's outputs as [N, O]."""
    if not isinstance(found, Tensor) or not found.is_floating_point():
        got = f"a {found.dtype} tensor" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise TypeError(f"the model returned {got}, expected a floating-point tensor [N, ...]: wrap it to return one")
    if found.dim() == 0 or len(found) != len(inputs) or found.numel() == 0:
        raise ValueError(
            f"the model's outputs have shape {list(found.shape)} for {len(inputs)} inputs, expected "
            f"[{len(inputs)}, ...]: give the model and the inputs a leading batch dimension"
        )
    if not found.requires_grad:
        raise ValueError(
            "the model's outputs do not depend on any trainable parameter, expected a differentiable function: "
            "remove detach() or no_grad() from its forward"
        )
    return found.reshape(len(inputs), -1)


def _check_normalisation(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"{type(module).__name__} {name!r} has no running statistics, so that outputs depend on the whole "
                "batch, expected outputs of single points: use track_running_stats=True"
            )


def _watch_alone(
    model: nn.Module, layers: list[nn.Module], inputs: Tensor, network_outputs: Tensor
) -> dict[nn.Module, list[LayerCall]]:
    """Run the last point alone and compare: in a causal mix-up (a recurrent layer over the batch) it depends most."""
    alone, calls = watch(model, layers, inputs[-1:])
    if alone.numel() != network_outputs.shape[1] or not _agree(alone.reshape(-1), network_outputs[-1]):
        raise ValueError(
            "the outputs of a data point change with the other points of the batch, expected row i to depend on "
            "input i alone: put the batch dimension first (batch_first=True) and make eval mode deterministic"
        )
    return calls


def _agree(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding relative to the largest entry; always true where that cannot be told (non-finite)."""
    if a.numel() == 0:
        return True
    scale = torch.maximum(a.abs().max(), b.abs().max())
    if not torch.isfinite(scale):
        return True
    return bool((a - b).abs().max() <= scale * torch.finfo(a.dtype).eps ** 0.5)


def _ruled_layers(
    layers: list[nn.Module],
    calls: dict[nn.Module, list[LayerCall]],
    calls_alone: dict[nn.Module, list[LayerCall]],
    network_outputs: Tensor,
    points: int,
) -> dict[nn.Module, Rule]:
    """The layers whose rule is exact here: called once, one row per data point, parameters used nowhere else."""
    uses = parameter_uses(network_outputs)

    def exact(module: nn.Module) -> bool:
        if "forward" in vars(module) or len(calls[module]) != 1 or len(calls_alone[module]) != 1:
            return False
        call, alone = calls[module][0], calls_alone[module][0]
        trainable = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        return (
            bool(trainable)
            and all(uses[id(parameter)] == 1 for parameter in trainable)
            and call.edge is not None
            and len(call.inputs) == call.outputs_shape[0] == points
            and alone.inputs.shape == call.inputs[-1:].shape
            and (not call.inputs.is_floating_point() or _agree(alone.inputs, call.inputs[-1:]))
            and RULES[type(module)].applies(module, call.inputs, call.outputs_shape)
        )

    return {module: RULES[type(module)] for module in layers if exact(module)}


def _empty_kernel(trainable: dict[str, nn.Parameter], points: int, rows: OutputRows, device: torch.device) -> Tensor:
    dtype = torch.float32  # at least: sums over parameters lose everything in half precision
    for parameter in trainable.values():
        dtype = torch.promote_types(dtype, parameter.dtype)
    return torch.zeros((points, rows.kept, points, rows.kept), dtype=dtype, device=device)


def _mirror_upper(kernel: Tensor, block: int = 1024) -> Tensor:
    """Copy the upper triangle onto the lower one in place, so that the kernel is symmetric to the last bit."""
    side = len(kernel)
    for start in range(0, side, block):
        stop = min(start + block, side)
        diagonal = kernel[start:stop, start:stop]
        diagonal.copy_(diagonal.triu() + diagonal.triu(1).T)
        kernel[stop:, start:stop] = kernel[start:stop, stop:].T
    return kernel
