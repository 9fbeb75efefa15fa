"""Exact empirical tangent kernels: of a batch, between two batches, of draws, layer by layer."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from tangentscope.probes.kernels.computation import begin
from tangentscope.probes.kernels.treatment import OutputTreatment
from tangentscope.probes.network.batch import checked_draws
from tangentscope.probes.network.checks import Chosen, trainable_parameters
from tangentscope.probes.network.function import Function
from tangentscope.probes.network.output import Output

Parts = Literal["layer", "block"]


def tangent_kernel(
    model: nn.Module,
    inputs: Any,
    outputs: OutputTreatment = "full",
    *,
    others: Any = None,
    output: Output = None,
    parameters: Chosen = None,
    memory_bytes: int | None = None,
) -> Float[Tensor, "rows columns"]:
    """Empirical neural tangent kernel Θ[(i,a),(j,b)] = Σ_p ∂f_a(x_i)/∂θ_p · ∂f_b(x_j)/∂θ_p (CV eq. 5, BSC eq. 6-7).

    Exact; of one batch also symmetric and positive semi-definite up to rounding. The parameters with requires_grad
    count; hooks on parameters do not, those on other tensors do. The network is taken as a deterministic function:
    eval mode, autocast off. Its modes, buffers, caches and gradients, and the global random generators, are left as
    they were, also on error.

    Args:
        model: any module whose outputs are [N, ...], row i a function of data point i alone; further output
            dimensions are flattened into O.
        inputs: N data points on the model's device: a tensor [N, ...]; a dict or another mapping, a tuple, list or
            dataclass of such tensors, nested as one likes; or a torch_geometric ``Batch`` of N graphs. In a structure,
            numbers, strings and tensors without dimensions are constants, passed on. A mapping is passed as keyword
            arguments if the model's ``forward`` can take its keys as such, a tuple or list as positional arguments if
            it can take so many; anything else is passed as one argument.
        outputs: ``"full"`` → [N·O, N·O], point-major rows (i, a); ``"traced"`` → [N, N],
            Θ[i,j] = (1/O) Σ_a Θ[ia,ja]; ``"summed"`` → [N, N], the kernel of Σ_a f_a/√O (one backward pass).
        others: M data points for the columns, such as test points against training points: [N·O, M·O] or [N, M];
            of the same structure as ``inputs``.
        output: which of what the model returns is its output: a key, an index, the name of an attribute, or a function
            that picks it. By default what it returns, or the one tensor in that.
        parameters: which of the trainable parameters count: a glob of their names (``"encoder.*"``), several globs, or
            a function of name and parameter. Tied ones have the first of their names. By default all.
        memory_bytes: bound on what the computation holds at a time, the kernel among it; by default a quarter of what
            is free. A smaller one costs more passes, and rounds differently in the last digits.

    Returns:
        The kernel, on the model's device, without gradient; float64 if the parameters are, else float32. Its unit is
        (output unit)² per (parameter unit)². Rows and columns of outputs that are not finite are NaN.

    Raises:
        TypeError: the model is no module; inputs hold no tensors and no graphs, or sparse or nested tensors; others
            are of another structure; the output is no floating-point tensor.
        ValueError: unknown ``outputs``, ``output`` or name in ``parameters``; no data points, or tensors of different
            N; graphs that were changed after collating; no trainable parameters, or outputs that do not depend on
            them; a model without numbers (on the meta device), or not on the inputs' device; outputs not [N, ...];
            outputs of one point that depend on the other points (batch statistics, or a batch dimension that is not
            the first) or on chance; too small a ``memory_bytes``.
    """
    with begin(Function(model, output, parameters), inputs, others, outputs, memory_bytes, _whole) as run:
        (kernel,) = run.kernels().kernels.values()
    return kernel


def layer_kernels(
    model: nn.Module,
    inputs: Any,
    outputs: OutputTreatment = "full",
    *,
    others: Any = None,
    by: Parts = "layer",
    output: Output = None,
    parameters: Chosen = None,
    memory_bytes: int | None = None,
) -> dict[str, Float[Tensor, "rows columns"]]:
    """The kernel taken apart: what the parameters of each layer add to it; their sum is the kernel.

    Args:
        model, inputs, outputs, others, output, parameters, memory_bytes: as for ``tangent_kernel``, with the same
            errors.
        by: ``"layer"``: every module that has parameters of its own, under its name, tied ones under the first
            module's (``""`` for the network's own); ``"block"``: the network's direct children, each with all below.

    Returns:
        By name, in the order of the modules; parts that the outputs do not depend on are zero.
    """
    with begin(Function(model, output, parameters), inputs, others, outputs, memory_bytes, _naming(by)) as run:
        return run.kernels().kernels


def layer_traces(
    model: nn.Module,
    inputs: Any,
    outputs: OutputTreatment = "full",
    *,
    by: Parts = "layer",
    output: Output = None,
    parameters: Chosen = None,
    memory_bytes: int | None = None,
) -> dict[str, float]:
    """Traces of ``layer_kernels``, Σ ‖∂f_a(x_i)/∂θ_layer‖², without the kernels: which layers carry the learning.

    Same arguments and errors; their sum is the trace of the kernel (CV eq. 10).
    """
    # The trace of the full kernel needs no products of different outputs: it is O times that of the traced one.
    treatment: OutputTreatment = "traced" if outputs == "full" else outputs
    with begin(Function(model, output, parameters), inputs, None, treatment, memory_bytes, _naming(by)) as run:
        found = run.draws(torch.arange(len(run.left))[:, None]).kernels
    scale = run.network.rows.outputs if outputs == "full" else 1
    return {name: scale * float(kernel.double().sum()) for name, kernel in found.items()}


def layer_names(model: nn.Module, *, parameters: Chosen = None) -> tuple[str, ...]:
    """The layers that ``layer_kernels`` has, in its order; a model on the meta device will do.

    Args:
        model: any module.
        parameters: which of its trainable parameters count, as for ``tangent_kernel``.

    Raises:
        ValueError: no trainable parameters, or a name in ``parameters`` that matches none.
        TypeError: ``model`` is no module.
    """
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in trainable_parameters(model, parameters)))


def draw_kernels(
    model: nn.Module,
    inputs: Any,
    draws: Int64[Tensor, "draws size"] | Int64[np.ndarray, "draws size"],
    outputs: OutputTreatment = "full",
    *,
    output: Output = None,
    parameters: Chosen = None,
    memory_bytes: int | None = None,
) -> Float[Tensor, "draws side side"]:
    """Kernels of several draws of points, ``tangent_kernel(model, inputs[draw])`` for each, in few passes.

    Points that several draws share are passed through the network once; where draws overlap so much that the kernel
    of all their points together is cheaper, it is computed and the draws are taken out of it.

    Args:
        model, inputs, outputs, output, parameters, memory_bytes: as for ``tangent_kernel``, with the same errors.
        draws: indices of points, see ``draw_indices``.

    Raises:
        ValueError: draws are not [draws, size] with both at least 1, or an index is out of range.
    """
    with begin(Function(model, output, parameters), inputs, None, outputs, memory_bytes, _whole) as run:
        (kernels,) = run.draws(checked_draws(draws, len(run.left))).kernels.values()
    return kernels


def draw_kernels_and_traces(
    model: nn.Module,
    inputs: Any,
    draws: Int64[Tensor, "draws size"] | Int64[np.ndarray, "draws size"],
    outputs: OutputTreatment = "full",
    *,
    by: Parts = "layer",
    output: Output = None,
    parameters: Chosen = None,
    memory_bytes: int | None = None,
) -> tuple[Float[Tensor, "draws side side"], dict[str, Float64[Tensor, " draws"]]]:
    """``draw_kernels`` and, of the same passes, each draw's ``layer_traces``.

    Same arguments and errors, ``by`` as for ``layer_kernels``; NaN where an output of a draw's points is not finite.
    """
    with begin(Function(model, output, parameters), inputs, None, outputs, memory_bytes, _whole, _naming(by)) as run:
        found = run.draws(checked_draws(draws, len(run.left)))
    (kernels,) = found.kernels.values()
    return kernels, {name: traces.sum(1) for name, traces in found.traces.items()}


def _whole(owner: str) -> str:
    return ""


def _naming(by: Parts) -> Callable[[str], str]:
    if by not in get_args(Parts):
        raise ValueError(f"by={by!r} is unknown, expected one of {', '.join(map(repr, get_args(Parts)))}")
    return (lambda owner: owner) if by == "layer" else (lambda owner: owner.partition(".")[0])
