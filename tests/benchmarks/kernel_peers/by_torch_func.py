"""torch.func: both recipes of its tutorial "Neural Tangent Kernels".

jacobian: vmap(jacrev), then J Jᵀ by parameter. vector-products: vjp and jvp of every unit vector, in chunks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kernel_peers.cells import build
from kernel_peers.torch_warm_up import warm_up
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap

CHUNK_BYTES, CHUNK = 10**9, 64
"""Bounds on the parameter-sized vectors that vector-products holds at a time; the tutorial holds all N·O of them."""


def prepare(cell: Path, name: str, sizes: dict[str, int], variant: str, device: str) -> Callable[[], Tensor]:
    """The timed call, giving [N, O, N, O]."""
    model, inputs = build(name, sizes, device)
    parameters = {key: value.detach() for key, value in model.named_parameters()}
    buffers = dict(model.named_buffers())
    warm_up(device)

    def f(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, (parameters, buffers), (x.unsqueeze(0),)).flatten()

    if not isinstance(inputs, Tensor):
        graphs = [type(inputs).from_data_list([graph]) for graph in inputs.to_data_list()]
        return lambda: contract(jacobian_of_graphs(model, parameters, graphs))
    if variant == "vector-products":
        return lambda: vector_products(f, parameters, inputs)
    return lambda: contract(vmap(jacrev(f), (None, 0))(parameters, inputs))


def contract(jacobian: dict[str, Tensor]) -> Tensor:
    """Σ over parameters of J Jᵀ, from [N, O, *shape] each."""
    shape = next(iter(jacobian.values())).shape[:2]
    rows = [J.flatten(2).flatten(0, 1) for J in jacobian.values()]
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
