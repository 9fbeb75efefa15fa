"""What the graph alone tells of whose rows are whose, and of what all points share.

Most operations treat the entries along some dimension apart. Where only such ones lie between a tensor and the outputs
[N, O], the N points can be followed from the outputs' first dimension to their place in that tensor's shape: nothing
need be computed to see it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from tangentscope.probes.kernels.gradients.autograd_graph import ELEMENTWISE, RESHAPING, Edge, Graph, edge_shape, signed
from tangentscope.probes.kernels.gradients.row_layouts import Grid
from tangentscope.probes.network import pooling


class Axis(NamedTuple):
    """Where the points stand in a shape: in dimension ``dim``, of size before · N · after."""

    dim: int
    before: int


SHARED = Axis(-1, 0)
"""Stands for a tensor that all points take alike: a weight, or what is broadcast to their rows."""


class Shown(NamedTuple):
    """The edges at which every point has its own rows, and how they lie; and those of tensors that points share."""

    rows: dict[Edge, Grid]
    shared: set[Edge]


def blockwise(graph: Graph, points: int) -> Shown:
    """What can be told of the edges of a graph without computing anything."""
    axes: dict[Edge, Axis | None] = {graph.root_edge: Axis(0, 1)}
    for node in graph.nodes:  # consumers come first
        takers: dict[Edge, list[Edge]] = {}
        for taker, place in graph.consumers.get(node, []):
            takers.setdefault(taker.next_functions[place], []).append((taker, place))
        for edge, taken in takers.items():
            seen = {_before(taker, place, axes, points, graph.outputs_of(taker)) for taker, place in taken}
            if edge == graph.root_edge:
                seen.add(Axis(0, 1))
            axes[edge] = seen.pop() if len(seen) == 1 else None
    shapes = {edge: edge_shape(edge) for edge in axes}
    rows = {
        edge: Grid(points, shapes[edge][axis.dim] // points, axis.dim, axis.before)
        for edge, axis in axes.items()
        if axis and axis != SHARED
    }
    return Shown(rows, {edge for edge, axis in axes.items() if axis == SHARED})


def _before(node: Any, place: int, axes: dict[Edge, Axis | None], points: int, outputs: list[int]) -> Axis | None:
    """Where the points stand in what a node takes at ``place``, if all of its outputs show it alike."""
    given = [axes.get((node, number)) for number in outputs]
    if all(axis == SHARED for axis in given):
        return SHARED
    rule = _RULES.get(node.name())
    if rule is None or None in given or SHARED in given:
        return None
    shape = edge_shape(node.next_functions[place])
    seen = {
        rule(node, place, axis, shape, edge_shape((node, number)), points)
        for axis, number in zip(given, outputs, strict=True)
        if axis
    }
    (only,) = seen if len(seen) == 1 else (None,)
    if only == SHARED:
        return SHARED
    if only is None or only.dim >= len(shape) or shape[only.dim] % (only.before * points):
        return None
    return only


Rule = Callable[[Any, int, Axis, torch.Size, torch.Size, int], Axis | None]
"""(node, place, axis of the output, shape that is taken, shape of the output, N) → axis of what is taken."""


def _same(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    return axis


def _by_entry(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    dim = axis.dim - (len(given) - len(taken))
    if dim < 0 or taken[dim] == 1 != given[axis.dim]:
        return SHARED  # it is broadcast
    return Axis(dim, axis.before) if taken[dim] == given[axis.dim] else None


def _reshaped(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    before = math.prod(given[: axis.dim]) * axis.before
    for dim, size in enumerate(taken):
        ahead = math.prod(taken[:dim])
        if ahead and before % ahead == 0 and size % (before // ahead * points) == 0 and size:
            return Axis(dim, before // ahead)
    return None


def _first(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    """What is taken first, along its first dimension; the rest is weights."""
    if place:
        return SHARED if axis.dim == 0 and node.name() in _WEIGHTED else None
    return axis if axis.dim == 0 and taken[0] == given[0] else None


def _product(left: int, lead: int) -> Rule:
    """Products of matrices behind ``lead`` dimensions that they have in common; the first one is taken at ``left``."""

    def rule(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
        if place < left:
            return _by_entry(node, place, axis, taken, given, points)
        if axis.dim < lead:
            return axis
        return axis if axis.dim == (lead if place == left else lead + 1) else SHARED

    return rule


def _by_constants(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    if node._saved_training or axis.dim == 1:
        return None
    return SHARED if place else axis


def _within_rows(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    if axis.dim >= len(given) - len(node._saved_normalized_shape):
        return None
    return SHARED if place else axis


def _over_another(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    return axis if axis.dim not in _dims(node, "dim", taken) and taken[axis.dim] == given[axis.dim] else None


def _reduced(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    """Over some dimensions, which the output still has or not."""
    dims = _dims(node, "dim", taken)
    if not dims:
        return None  # over all of them
    left = [dim for dim in range(len(taken)) if dim not in dims] if len(given) < len(taken) else range(len(taken))
    dim = left[axis.dim]
    return Axis(dim, axis.before) if dim not in dims else None


def _selected(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    (gone,) = _dims(node, "dim", taken)
    return Axis(axis.dim + (gone <= axis.dim), axis.before)


def _stacked(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    (new,) = _dims(node, "dim", given)
    return Axis(axis.dim - (new < axis.dim), axis.before) if new != axis.dim else None


def _swapped(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    dims = [0, 1] if node.name() == "TBackward0" else [*_dims(node, "dim0", taken), *_dims(node, "dim1", taken)]
    return Axis({dims[0]: dims[1], dims[1]: dims[0]}.get(axis.dim, axis.dim), axis.before)


def _permuted(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    return Axis(_dims(node, "dims", taken)[axis.dim], axis.before)


def _moved_along(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    dims = _dims(node, "dims", taken)  # without any, all entries move
    return axis if dims and axis.dim not in dims else None


def _padded(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    return axis if axis.dim < len(taken) - len(getattr(node, "_saved_pad", ())) // 2 else None


def _attention(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    return axis if axis.dim < len(given) - 2 and taken[axis.dim] == given[axis.dim] else None


def _looked_up(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    """Entries of a later dimension, or of every row its own."""
    indices = node._saved_indices
    asked = [dim for dim, index in enumerate(indices) if index is not None]
    if len(asked) == 1 and axis.dim < asked[0]:
        return axis
    every_row = axis.dim == 0 and asked[0] == 0 and taken[0] == given[0] and all(indices[d].dim() <= 1 for d in asked)
    return axis if every_row and torch.equal(indices[0], torch.arange(taken[0], device=indices[0].device)) else None


def _restrided(node: Any, place: int, axis: Axis, taken: torch.Size, given: torch.Size, points: int) -> Axis | None:
    """Other strides under which every entry stays where it was, as torch gives to what is pooled to one position."""
    if taken != given:
        return None
    # The node does not tell the strides of what it takes, so it is asked where it puts each entry. No sum of other
    # entries is 1, none of those left then is 2, and so on: what is the same has not moved.
    device = node._input_metadata[0].device
    entries = torch.arange(1, math.prod(given) + 1, dtype=torch.float64, device=device).reshape(given)
    return axis if torch.equal(node(entries), entries) else None


def _dims(node: Any, name: str, shape: torch.Size) -> list[int]:
    """Dimensions that a node has saved, counted from the first."""
    saved = getattr(node, f"_saved_{name}", None)
    if saved is None:
        return []
    return [signed(dim) % len(shape) for dim in (saved if isinstance(saved, tuple) else (saved,))]


_WEIGHTED = {"ConvolutionBackward0", "NativeGroupNormBackward0"}

_RULES: dict[str, Rule] = {
    f"{name}Backward{number}": rule
    for number in (0, 1, 2)
    for rule, names in {
        _same: "Clone ToCopy Alias",
        _by_entry: "Abs Add Addcdiv Addcmul Atan Celu Clamp ClampMax ClampMin Cos Div Erf Exp Expand Expm1 Hardshrink "
        "Hardsigmoid Hardswish Hardtanh LeakyRelu Lerp Log Log1P LogSigmoid MaskedFill Maximum Minimum Mish Mul "
        "NativeDropout Neg Pow PreluKernel Reciprocal Repeat Rsqrt Rsub Selu Sgn Softshrink Sqrt Square Sub Where",
        _first: "AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D AvgPool2D AvgPool3D Convolution GridSampler2D "
        "MaxPool2DWithIndices MaxPool3DWithIndices NativeGroupNorm ReflectionPad1D ReflectionPad2D ReplicationPad1D "
        "ReplicationPad2D UpsampleBicubic2D UpsampleBilinear2D UpsampleNearest1D UpsampleNearest2D",
        _reshaped: "ReshapeAlias Squeeze UnsafeView Unsqueeze View",
        _product(0, 0): "Mm Mv",
        _product(1, 0): "Addmm Addmv",
        _product(0, 1): "Bmm",
        _product(1, 1): "Baddbmm",
        _by_constants: "CudnnBatchNorm NativeBatchNorm",
        _within_rows: "NativeLayerNorm",
        _over_another: "Cat Cumprod Cumsum Gather Glu IndexSelect LogSoftmax SafeSoftmax Slice Softmax Sort Split "
        "SplitWithSizes Topk UnsafeSplit",
        _reduced: "Amax Amin LinalgVectorNorm Logsumexp Max Mean Min Norm Prod Std Sum Var",
        _selected: "Select Unbind",
        _stacked: "Stack",
        _swapped: "T Transpose",
        _permuted: "Permute",
        _moved_along: "Flip Roll",
        _padded: "ConstantPadNd",
        _attention: "ScaledDotProductEfficientAttention ScaledDotProductFlashAttention "
        "ScaledDotProductFlashAttentionForCpu",
        _looked_up: "Index",
        _restrided: "AsStrided",
    }.items()
    for name in names.split()
}
_RULES |= dict.fromkeys(RESHAPING, _reshaped) | dict.fromkeys(ELEMENTWISE, _by_entry)
_RULES |= dict.fromkeys(pooling.NODES, _first)
