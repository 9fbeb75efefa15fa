"""Data points as a user of :func:`tangentscope.attach` has them: structures of tensors or arrays, data sets, graphs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tangentscope.pipeline.system.errors import UserError
from tangentscope.probes.network.graph_batch import is_graph_batch
from tangentscope.probes.network.structure import leaves_of, mapped, parts_of, tensors_of
from tangentscope.tasks import Split

_EXPECTED = (
    "expected (inputs, targets): inputs as the network takes them (a tensor or array [n, ...], a dict or tuple of "
    "such, or graphs) and targets [n, ...] or None; or a TensorDataset"
)


@dataclass(frozen=True, eq=False)
class Given:
    """Points of a split.

    inputs: a tensor [n, ...], a structure whose tensors have n rows (those without dimensions are constants), or
        graphs (`tangentscope.tasks.graphs.Graphs`).
    targets: [n, ...], or None.
    """

    inputs: Any
    targets: Tensor | None

    def __len__(self) -> int:
        """How many points there are."""
        if isinstance(self.inputs, Tensor) or _are_graphs(self.inputs):
            return len(self.inputs)
        return len(next(leaf for leaf in tensors_of(self.inputs).values() if leaf.dim()))

    def take(self, indices: Tensor) -> "Given":
        """The points at `indices` (integers, [m]), in that order."""
        targets = None if self.targets is None else self.targets[indices.to(self.targets.device)]
        if _are_graphs(self.inputs):
            return Given(self.inputs.take(indices), targets)
        return Given(mapped(self.inputs, lambda t: t[indices.to(t.device)] if t.dim() else t), targets)

    def to(self, device: torch.device | str) -> "Given":
        """The same points on another device."""
        inputs = self.inputs.to(device) if _are_graphs(self.inputs) else mapped(self.inputs, lambda t: t.to(device))
        return Given(inputs, None if self.targets is None else self.targets.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """All the numbers of it, by name: ``inputs``, or ``inputs.…`` for each part of a structure, and ``targets``."""
        if isinstance(self.inputs, Tensor):
            found = {"inputs": self.inputs}
        elif _are_graphs(self.inputs):
            found = self.inputs.tensors("inputs.")
        else:
            found = {f"inputs.{k}": leaf for k, leaf in enumerate(tensors_of(self.inputs).values())}
        return found if self.targets is None else {**found, "targets": self.targets}

    @property
    def form(self) -> Any:
        """The structure without its rows, for `in_form`; None where `tensors` says all."""
        if isinstance(self.inputs, Tensor) or _are_graphs(self.inputs):
            return None
        return mapped(self.inputs, lambda t: t[:0].cpu().clone() if t.dim() else t.cpu())


def in_form(form: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The structure whose rows `Given.tensors` gave."""
    leaves = (tensors[f"inputs.{k}"] for k in range(len(tensors_of(form))))
    return mapped(form, lambda _: next(leaves))


def as_given(split: str, points: Any, network: nn.Module) -> Given:
    """Points as they were passed.

    Arrays become tensors, and numbers of double precision those of the network, if it computes in single precision.

    Raises:
        UserError: They are no such points.
    """
    inputs, targets = _pair(split, points)
    inputs = _as_tensors(split, "inputs", inputs)
    if not _are_graphs(inputs) and not any(leaf.dim() for leaf in tensors_of(inputs).values()):
        raise UserError(f"attach(): {split}: inputs: got a {type(inputs).__name__} without rows; {_EXPECTED}")
    sizes = {len(leaf) for leaf in tensors_of(inputs).values() if leaf.dim()} if not _are_graphs(inputs) else set()
    if len(sizes) > 1:
        got = ", ".join(f"{name} {len(leaf)}" for name, leaf in tensors_of(inputs).items() if leaf.dim())
        raise UserError(f"attach(): {split}: got inputs of different lengths ({got}); expected a row for every point")
    if targets is not None:
        targets = _as_tensors(split, "targets", targets)
        if isinstance(targets, tuple | list) and all(isinstance(each, int | float) for each in targets):
            targets = torch.tensor(targets)
        if not isinstance(targets, Tensor) or targets.dim() == 0:
            got = f"got a {type(targets).__name__}" if not isinstance(targets, Tensor) else "got a single number"
            raise UserError(f"attach(): {split}: targets: {got}; expected a tensor with one row a point, or None")
    given = Given(_single(inputs, network), targets)
    if targets is not None and len(targets) != len(given):
        raise UserError(
            f"attach(): {split}: a split needs one target per input; got {len(given)} inputs, {len(targets)} targets; "
            "give (inputs, targets)"
        )
    if len(given) < 1:
        raise UserError(f"attach(): {split}: got no points; give at least one")
    return given


def _pair(split: str, points: Any) -> tuple[Any, Any]:
    if isinstance(points, TensorDataset):
        *inputs, targets = points.tensors
        if inputs:
            return inputs[0] if len(inputs) == 1 else tuple(inputs), targets
    elif isinstance(points, Dataset | DataLoader):
        mend = "stack its points first, e.g. next(iter(DataLoader(data_set, batch_size=1000)))"
        raise UserError(f"attach(): {split}: got a {type(points).__name__}, {_EXPECTED}; {mend}")
    elif isinstance(points, tuple | list) and len(points) == 2:
        return points[0], points[1]
    elif isinstance(points, Split):
        return points.inputs, points.targets
    size = f" of {len(points)}" if isinstance(points, tuple | list) else ""
    raise UserError(f"attach(): {split}: got a {type(points).__name__}{size}; {_EXPECTED}")


def _as_tensors(split: str, part: str, values: Any) -> Any:
    """The same structure with arrays as tensors; a batch of graphs as `Graphs`, a mapping of another kind as a dict."""
    if isinstance(values, np.ndarray | np.generic):
        try:
            return torch.as_tensor(values)
        except TypeError as error:
            got = f"got an array of {values.dtype}"
            raise UserError(f"attach(): {split}: {part}: {got} ({error}); give numbers") from None
    if isinstance(values, Tensor) or _are_graphs(values):
        return values
    if is_graph_batch(values):
        from tangentscope.tasks.graphs import Graphs  # loads PyTorch Geometric

        return Graphs(values.to_data_list())
    if isinstance(values, Mapping):  # BatchEncoding holds a tokenizer's records beside its tensors
        return {key: _as_tensors(split, part, value) for key, value in values.items()}
    if isinstance(values, tuple | list) and any(not _is_number(value) for value in values):
        made = [_as_tensors(split, part, value) for value in values]
        return type(values)(*made) if hasattr(values, "_fields") else type(values)(made)
    if (
        parts_of(values) is None
        and not _is_number(values)
        and values is not None
        and not isinstance(values, str | bool)
    ):
        raise UserError(f"attach(): {split}: {part}: got a {type(values).__name__}; {_EXPECTED}")
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _are_graphs(inputs: Any) -> bool:
    return type(inputs).__name__ == "Graphs" and type(inputs).__module__ == "tangentscope.tasks.graphs"


def _single(inputs: Any, network: nn.Module) -> Any:
    """Numbers of double precision, as numpy makes them, in single precision if the network's all are."""
    kinds = {p.dtype for p in network.parameters() if p.is_floating_point()}
    if kinds != {torch.float32} or _are_graphs(inputs):
        return inputs
    return mapped(inputs, lambda t: t.float() if t.dtype == torch.float64 else t)


def constants_of(inputs: Any) -> list[str]:
    """What of a structure is no tensor, as text: it tells two structures apart as much as numbers do."""
    if _are_graphs(inputs):
        return []
    return [f"{label}={leaf!r}" for label, leaf in leaves_of(inputs) if not isinstance(leaf, Tensor)]
