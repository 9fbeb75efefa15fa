"""torch.func: both recipes of its tutorial "Neural Tangent Kernels", and what is left where it cannot.

jacobian: vmap(jacrev), then J Jᵀ by parameter; jacobian/4: in four chunks of points; graphs, which know no vmap over
points, by a loop of jacrev. vector-products: vjp and jvp of every unit vector, in chunks. gradients: one output of one
point at a time, by torch.autograd.grad.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kernel_peers.cells import Inputs, build
from kernel_peers.torch_warm_up import warm_up
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap

CHUNK_BYTES, CHUNK = 10**9, 64
"""Bounds on the parameter-sized vectors that vector-products holds at a time; the tutorial holds all N·O of them."""


def prepare(cell: Path, name: str, sizes: dict[str, int], variant: str, device: str) -> Callable[[], Tensor]:
    """The timed call, giving [N, O, N, O]."""
    model, inputs = build(name, sizes, device)
    parameters = {key: value.detach() for key, value in model.named_parameters() if value.requires_grad}
    buffers = dict(model.named_buffers())
    warm_up(device)

    def f(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, (parameters, buffers), (x.unsqueeze(0),)).flatten()

    if variant == "gradients":
        return lambda: contract(one_by_one(model, inputs))
    if not isinstance(inputs, Tensor):
        graphs = alone(inputs)
        return lambda: contract(jacobian_of_graphs(model, parameters, graphs))
    if variant == "vector-products":
        return lambda: vector_products(f, parameters, inputs)
    chunk = math.ceil(len(inputs) / 4) if variant == "jacobian/4" else None
    return lambda: contract(vmap(jacrev(f), (None, 0), chunk_size=chunk)(parameters, inputs))


def contract(jacobian: dict[str, Tensor]) -> Tensor:
    """Σ over parameters of J Jᵀ, from [N, O, *shape] each."""
    shape = next(iter(jacobian.values())).shape[:2]
    rows = [J.reshape(shape.numel(), -1) for J in jacobian.values()]
    kernel = rows[0] @ rows[0].T
    for J in rows[1:]:
        kernel.addmm_(J, J.T)
    return kernel.view(*shape, *shape)


def jacobian_of_graphs(model: nn.Module, parameters: dict[str, Tensor], graphs: list[Any]) -> dict[str, Tensor]:
    """Graphs differ in size, so that a loop takes the place of vmap."""
    found = [
        jacrev(lambda p, graph=graph: functional_call(model, p, (graph,)).flatten())(parameters) for graph in graphs
    ]
    return {name: torch.stack([jacobian.pop(name) for jacobian in found]) for name in parameters}


def one_by_one(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """The Jacobian by plain autograd, row by row."""
    parameters = {key: value for key, value in model.named_parameters() if value.requires_grad}
    points = [inputs[i : i + 1] for i in range(len(inputs))] if isinstance(inputs, Tensor) else alone(inputs)
    asked: dict[str, Any] = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    rows = [
        torch.autograd.grad(value, list(parameters.values()), **asked)
        for point in points
        for value in model(point).flatten()
    ]
    return {
        name: torch.stack([row[place] for row in rows]).unflatten(0, (len(points), -1))
        for place, name in enumerate(parameters)
    }


def alone(graphs: Any) -> list[Any]:
    """Batches of one graph each."""
    return [type(graphs).from_data_list([graph]) for graph in graphs.to_data_list()]


def vector_products(
    f: Callable[[dict[str, Tensor], Tensor], Tensor], parameters: dict[str, Tensor], inputs: Tensor
) -> Tensor:
    """Θ[i, :, j, b] = ∂f(x_i)/∂θ · (∂f_b(x_j)/∂θ)ᵀ, a chunk of vectors at a time."""
    size = 4 * sum(parameter.numel() for parameter in parameters.values())
    outputs = f(parameters, inputs[0]).numel()
    held = max(1, min(CHUNK, CHUNK_BYTES // size))
    basis = torch.eye(outputs, device=inputs.device)

    def columns(y: Tensor) -> Tensor:
        """[O, N, O], by the unit vectors of f(y)."""
        _, pull_back = vjp(lambda p: f(p, y), parameters)

        def column(vector: Tensor) -> Tensor:
            (direction,) = pull_back(vector)
            return jvp(lambda p: vmap(f, (None, 0))(p, inputs), (parameters,), (direction,))[1]

        return vmap(column, chunk_size=min(held, outputs))(basis)

    return vmap(columns, chunk_size=max(1, min(len(inputs), held // outputs)))(inputs)


def entries(kernel: Tensor, points: np.ndarray, outputs: np.ndarray, per_point: int) -> np.ndarray:
    """Θ between the given rows."""
    return kernel[points[:, None], outputs[:, None], points, outputs].cpu().numpy()
