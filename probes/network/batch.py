"""Data points in a batch: rows of tensors, or graphs of a mini-batch of graphs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset

from tangentscope.probes.network.graph_batch import GraphBatch, is_graph_batch
from tangentscope.probes.network.output import Output, arguments_for, picked
from tangentscope.probes.network.state import renew
from tangentscope.probes.network.structure import leaves_of, mapped, parts_of, tensors_of

STRUCTURES = "a tensor [N, ...], a dict, tuple or dataclass of such, or a torch_geometric Batch"


@dataclass(frozen=True, eq=False)
class TensorBatch:
    """Points are the rows of a tensor [N, ...], or of all tensors of a structure but those without dimensions.

    output: which of what a model returns is meant.
    """

    data: Any
    output: Output = None

    @property
    def devices(self) -> dict[str, torch.device]:
        """Where the tensors that have rows lie, by the code that takes them out of the data."""
        return {label: tensor.device for label, tensor in tensors_of(self.data).items() if tensor.dim()}

    @cached_property
    def rows(self) -> list[Tensor]:
        """The tensors that have a row for each point."""
        return [tensor for tensor in tensors_of(self.data).values() if tensor.dim()]

    def __len__(self) -> int:
        return len(self.rows[0])

    def run(self, model: nn.Module, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The model's output, with other parameters if they are given, at each place that has one.

        It gets copies: a model may work on its inputs in place.
        """
        args, kwargs = arguments_for(model, mapped(self.data, Tensor.clone))
        if parameters is None:
            renew(model)
            returned = model(*args, **kwargs)
        else:
            returned = functional_call(model, dict(parameters), args, kwargs, tie_weights=False)
        return picked(returned, self.output, model)

    def take(self, indices: Tensor) -> "TensorBatch":
        """Some of the points."""
        return self._each(lambda rows: rows[indices.to(rows.device)])

    def sample(self, points: int) -> "TensorBatch":
        """So many points, or all, that cost as much as any: the last ones."""
        return self._each(lambda rows: rows[-points:])

    def filled(self, rows: Sequence[Tensor]) -> "TensorBatch":
        """The same with other ``rows``."""
        remaining = iter(rows)
        return self._each(lambda _: next(remaining))

    def owners(self, rows: int) -> Iterator[Tensor]:
        """None: rows of a tensor keep their places, see ``layouts.Grid``."""
        return iter(())

    def level(self, rows: int) -> str | None:
        """None: there is nothing but points."""
        return None

    def _each(self, change: Any) -> "TensorBatch":
        return replace(self, data=mapped(self.data, lambda tensor: change(tensor) if tensor.dim() else tensor))


Batch = TensorBatch | GraphBatch
"""N data points that a network takes at once."""


def as_batch(inputs: Any, name: str = "inputs", output: Output = None) -> Batch:
    """The data points behind ``inputs``, for models of whose results ``output`` is meant.

    Raises:
        TypeError: no data points of a known kind.
        ValueError: no batch dimension or several, no data points, or graphs that were changed after collating.
    """
    if isinstance(inputs, DataLoader | Dataset):
        raise TypeError(f"{name} are a {type(inputs).__name__}, expected one batch of it: {_one_batch(inputs, name)}")
    if is_graph_batch(inputs):
        return GraphBatch.of(inputs, name, output)
    if isinstance(inputs, Tensor):
        _check_dense(inputs, name)
        if inputs.dim() == 0:
            raise ValueError(
                f"{name} have no batch dimension (shape []), expected [N, ...]: add one with {name}.unsqueeze(0)"
            )
    elif parts_of(inputs) is None:
        raise TypeError(
            f"{name} are a {type(inputs).__name__}, expected {STRUCTURES}: {_converted(inputs, f'[{name}]')}"
        )
    else:
        _check_structure(inputs, name)
    with torch.inference_mode(False):  # tensors made in it cannot be saved for a backward pass
        batch = TensorBatch(mapped(inputs, lambda t: t.clone() if t.is_inference() else t.detach()), output)
    if len(batch) == 0:
        shapes = ", ".join(f"{label or 'shape'} {list(t.shape)}" for label, t in tensors_of(inputs).items() if t.dim())
        raise ValueError(f"{name} hold no data points ({shapes}), expected N ≥ 1: pass at least one")
    try:
        batch.sample(1)
    except Exception as error:  # a class of its own may hold its tensors to each other's sizes
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise TypeError(
            f"{name} are a {type(inputs).__name__}, of which no single point can be taken ({told}), "
            f"expected {STRUCTURES}: put its tensors into a dict"
        ) from error
    return batch


def checked_draws(draws: Any, points: int) -> Tensor:
    """Indices [draws, size] into ``points`` points, on the CPU.

    Raises:
        ValueError: they are not whole numbers [draws, size] with both at least 1, or out of range.
    """
    index = torch.as_tensor(draws)
    if index.dim() != 2 or index.numel() == 0 or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(
            f"draws are {index.dtype} of shape {list(index.shape)}, expected integers [draws, size]: see draw_indices"
        )
    index = index.long().cpu()
    if int(index.min()) < 0 or int(index.max()) >= points:
        raise ValueError(
            f"draws hold indices from {int(index.min())} to {int(index.max())}, expected 0 … {points - 1}: "
            "draw out of these inputs"
        )
    return index


def _check_dense(tensor: Tensor, name: str) -> None:
    if tensor.is_nested:
        raise TypeError(
            f"{name} are a nested tensor, expected a dense one [N, ...]: pad it with {name}.to_padded_tensor(0)"
        )
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} are a sparse tensor, expected a dense one [N, ...]: pass {name}.to_dense()")


def _check_structure(inputs: Any, name: str) -> None:
    sizes = {}
    for label, leaf in leaves_of(inputs):
        if isinstance(leaf, Tensor):
            _check_dense(leaf, name + label)
            if leaf.dim():
                sizes[label] = len(leaf)
        elif is_graph_batch(leaf):
            raise TypeError(
                f"{name}{label} are a {type(leaf).__name__} among others, expected it alone: pass it as {name}, with "
                "all else that belongs to a graph put on each Data before Batch.from_data_list"
            )
        elif isinstance(leaf, np.ndarray) and leaf.ndim:
            raise TypeError(
                f"{name}{label} are a {type(leaf).__name__}, expected a tensor [N, ...]: convert it with "
                "torch.as_tensor"
            )
    if not sizes:
        raise TypeError(
            f"{name} are a {type(inputs).__name__} without a tensor that has rows, expected {STRUCTURES}: "
            f"{_converted(next((leaf for _, leaf in leaves_of(inputs)), None), name)}"
        )
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name}{label} has {size}" for label, size in sizes.items())
        raise ValueError(
            f"tensors of different leading sizes: {told}; expected one N for all: give each a row for every data "
            "point, with expand() where all have the same (constants may be numbers or tensors without dimensions)"
        )


def _converted(given: Any, graphs: str) -> str:
    if type(given).__module__.startswith("torch_geometric."):
        return f"collate graphs with Batch.from_data_list({graphs})"
    return "convert arrays with torch.as_tensor and graphs with Batch.from_data_list"


def _one_batch(given: DataLoader | Dataset, name: str) -> str:
    if isinstance(given, DataLoader):
        return f"pass next(iter({name})), or of that what the model takes"
    kind = "torch_geometric.loader" if _of_graphs(given) else "torch.utils.data"
    return f"pass next(iter({kind}.DataLoader({name}, batch_size=64))), or of that what the model takes"


def _of_graphs(dataset: Dataset) -> bool:
    return any(base.__module__.startswith("torch_geometric.") for base in type(dataset).__mro__)
