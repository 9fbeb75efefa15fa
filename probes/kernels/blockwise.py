"""What the graph alone tells of whose rows are whose.

Most operations take a batch along their first dimension and treat its rows apart. Where only such ones lie between a
tensor and the outputs [N, O], its N equal blocks of rows belong to the N points: nothing need be computed to see it.
"""

from collections.abc import Callable
from typing import Any

import torch

from probes.kernels import pooling
from probes.kernels.graph import ELEMENTWISE, RESHAPING, Graph, edge_shape


def blockwise(graph: Graph, points: int) -> set[Any]:
    """The nodes of which every output is made of ``points`` blocks of rows, each of them its own point's alone."""
    known = {graph.root.node}
    for node in graph.nodes:  # consumers come first
        consumers = graph.consumers.get(node, [])
        if consumers and all(each in known and _keeps(each, place, points) for each, place in consumers):
            known.add(node)
    return known


def _keeps(node: Any, place: int, points: int) -> bool:
    """Whether blocks of a node's output come of the same blocks of what it takes at ``place``."""
    rule = _RULES.get(node.name())
    before, after = edge_shape(node.next_functions[place]), edge_shape((node, 0))
    return rule is not None and bool(before) and before[0] % points == 0 and rule(node, place, before, after)


def _in_order(node: Any, place: int, before: torch.Size, after: torch.Size) -> bool:
    return True


def _entry_by_entry(node: Any, place: int, before: torch.Size, after: torch.Size) -> bool:
    return len(before) == len(after) and before[0] == after[0]  # else something is broadcast


def _of_first(node: Any, place: int, before: torch.Size, after: torch.Size) -> bool:
    return place == 0 and before[0] == after[0]


def _of_second(node: Any, place: int, before: torch.Size, after: torch.Size) -> bool:
    return place == 1 and before[0] == after[0]


def _by_constants(node: Any, place: int, before: torch.Size, after: torch.Size) -> bool:
    return place == 0 and not node._saved_training


def _within_rows(node: Any, place: int, before: torch.Size, after: torch.Size) -> bool:
    return place == 0 and len(node._saved_normalized_shape) < len(before)


def _over_another(node: Any, place: int, before: torch.Size, after: torch.Size) -> bool:
    dims = node._saved_dim if isinstance(node._saved_dim, tuple) else (node._saved_dim,)
    return bool(dims) and 0 not in _places(dims, before)


def _swapped(node: Any, place: int, before: torch.Size, after: torch.Size) -> bool:
    return 0 not in _places((node._saved_dim0, node._saved_dim1), before)


def _permuted(node: Any, place: int, before: torch.Size, after: torch.Size) -> bool:
    return _places(node._saved_dims, before)[0] == 0


def _places(dims: tuple[int, ...], shape: torch.Size) -> list[int]:
    """Dimensions counted from the first; negative ones are saved without their sign, modulo 2⁶⁴."""
    return [(dim - 2**64 if dim >= 2**63 else dim) % len(shape) for dim in dims]


_RULES: dict[str, Callable[[Any, int, torch.Size, torch.Size], bool]] = {
    f"{name}Backward0": rule
    for rule, names in {
        _in_order: "Clone",
        _entry_by_entry: "Expand Bmm ScaledDotProductFlashAttentionForCpu ScaledDotProductFlashAttention "
        "ScaledDotProductEfficientAttention",
        _of_first: "Mm Convolution AvgPool2D MaxPool2DWithIndices AdaptiveAvgPool2D NativeGroupNorm",
        _of_second: "Addmm",
        _by_constants: "NativeBatchNorm CudnnBatchNorm",
        _within_rows: "NativeLayerNorm",
        _over_another: "Softmax LogSoftmax Select Slice Cat",
        _swapped: "Transpose",
        _permuted: "Permute",
    }.items()
    for name in names.split()
}
_RULES |= dict.fromkeys(RESHAPING, _in_order) | dict.fromkeys(ELEMENTWISE, _entry_by_entry)
_RULES |= dict.fromkeys(pooling.NODES, _of_first)
_RULES |= dict.fromkeys(("MeanBackward1", "SumBackward1"), _over_another)
