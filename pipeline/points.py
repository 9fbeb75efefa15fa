"""The data points of a probe: drawn once by the driver, stored, and the same at every step of every run."""

from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pipeline import layout
from pipeline.given import Given
from pipeline.plan import Run
from pipeline.spec import Kernel
from pipeline.storage import Storage
from probes import draw_indices
from tasks import Split


def draw_points(split: Split | Given, kernel: Kernel) -> dict[str, Tensor]:
    """The points that a kernel is taken of.

    Returns:
        ``inputs`` and ``targets`` [M, …] of all points that any draw has, each once, as ``Split.tensors`` names them;
        ``indices`` [M], their places in the split; ``draws`` [draws, size], places in these M.
    """
    drawn = torch.as_tensor(draw_indices(len(split), kernel.draws, kernel.size, kernel.seed))
    indices, draws = torch.unique(drawn, return_inverse=True)
    points = {name: tensor.contiguous() for name, tensor in split.take(indices).tensors().items()}
    return {**points, "indices": indices, "draws": draws}


def inputs_of(points: Mapping[str, Tensor]) -> Any:
    """The inputs among points that were drawn, as networks take them: a tensor, or a mini-batch of graphs."""
    if "inputs" in points:
        return points["inputs"]
    from tasks.graphs import Graphs  # loads PyTorch Geometric

    parts = {name.removeprefix("inputs."): tensor for name, tensor in points.items() if name.startswith("inputs.")}
    graphs = Graphs.from_tensors(parts)
    return graphs[torch.arange(len(graphs))]


def store_points(storage: Storage, runs: list[Run]) -> None:
    """Draw and publish the points of every probe that has none yet."""
    for run in runs:
        for probe in run.probes:
            if not storage.exists(layout.points(probe.id)):
                points = draw_points(getattr(run.data, probe.split), probe.kernel)
                storage.write(layout.points(probe.id), safetensors.torch.save(points))


def read_points(storage: Storage, probe: str) -> dict[str, Tensor]:
    """The stored points of a probe, as :func:`draw_points` gave them."""
    return safetensors.torch.load(storage.read(layout.points(probe)))
