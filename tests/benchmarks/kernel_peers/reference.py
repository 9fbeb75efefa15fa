"""The yardstick: entries of the kernel in float64 by the definition, one gradient at a time, and the net as arrays.

    python -m kernel_peers.reference FOLDER NAME SIZES_AS_JSON

Shares no code with torch.func or with our engine.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from kernel_peers.cells import NETS, Inputs, build
from torch import Tensor, nn

ROWS = 200
"""Rows of the kernel that are compared, at most: drawn at random once per cell."""
HELD_BYTES = 4 * 10**9


def write(folder: Path, name: str, sizes: dict[str, int]) -> None:
    """Write ``reference.npz``, R rows' points and outputs [R] and kernel [R, R], and ``net.npz`` for the JAX peer."""
    folder.mkdir(parents=True, exist_ok=True)
    model, inputs = build(name, sizes)
    if name in NETS:
        weights = {key: value.numpy() for key, value in model.state_dict().items()}
        np.savez(folder / "net.npz", **weights, **arrays(inputs))
    count = len(inputs) if isinstance(inputs, Tensor) else inputs.num_graphs
    model.double()
    outputs = model(twice(inputs, 0)).numel() // 2
    rows = np.sort(np.random.default_rng(0).permutation(count * outputs)[:ROWS])
    kernel = entries(model, inputs, rows // outputs, rows % outputs)
    found = {"points": rows // outputs, "outputs": rows % outputs, "per_point": outputs, "kernel": kernel}
    np.savez(folder / "reference.npz", **found)


def arrays(inputs: Inputs) -> dict[str, np.ndarray]:
    """The data points under names that no parameter has."""
    if isinstance(inputs, Tensor):
        return {"inputs": inputs.numpy()}
    return {f"inputs:{key}": inputs[key].numpy() for key in ("x", "edge_index", "batch")}


def entries(model: nn.Module, inputs: Inputs, points: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Θ between the given rows [R, R], Σ_p ∂f_a(x_i)/∂θ_p · ∂f_b(x_j)/∂θ_p, a group of parameters at a time."""
    wanted = defaultdict(list)
    for row, (point, output) in enumerate(zip(points.tolist(), outputs.tolist(), strict=True)):
        wanted[point].append((row, output))
    kernel = torch.zeros(len(points), len(points), dtype=torch.float64)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for group in groups(trained, len(points)):
        J = torch.zeros(len(points), sum(parameter.numel() for parameter in group), dtype=torch.float64)
        for point, pairs in wanted.items():
            f = model(twice(inputs, point))[0].reshape(-1)
            for row, output in pairs:
                gradients = torch.autograd.grad(
                    f[output], group, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                J[row] = torch.cat([gradient.reshape(-1) for gradient in gradients])
        kernel += J @ J.T
    return kernel.numpy()


def twice(inputs: Inputs, point: int) -> Inputs:
    """One data point as a batch of two, in double precision where it is real.

    torch 2.14 takes wrong gradients of some batch norms of a batch of one: where theirs comes with channels last.
    """
    if isinstance(inputs, Tensor):
        return double(inputs[[point, point]])
    return type(inputs).from_data_list([inputs[point], inputs[point]]).apply(double)


def double(values: Tensor) -> Tensor:
    return values.double() if values.is_floating_point() else values


def groups(parameters: list[nn.Parameter], rows: int) -> Iterator[list[Tensor]]:
    """Runs of parameters whose Jacobians fit into HELD_BYTES together; one that does not, alone."""
    group: list[Tensor] = []
    for parameter in parameters:
        if group and rows * 8 * sum(p.numel() for p in [*group, parameter]) > HELD_BYTES:
            yield group
            group = []
        group.append(parameter)
    yield group


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
