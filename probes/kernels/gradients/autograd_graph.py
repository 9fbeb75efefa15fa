"""The autograd graph of one forward pass: who takes what, and where a backward pass can be cut."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

ELEMENTWISE = {
    f"{name}Backward0"
    for name in (
        *("Add", "Sub", "Mul", "Div", "Neg"),
        *("Relu", "LeakyRelu", "Elu", "Gelu", "Silu", "Softplus", "Sigmoid", "Tanh", "Sin"),
    )
}
"""Nodes that take entry by entry, where nothing is broadcast."""

RESHAPING = {"UnsqueezeBackward0", "ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"}
"""Nodes that keep numbers and their order."""

BATCHED = ELEMENTWISE | {
    f"{name}Backward0"
    for name in ("Addmm", "Mm", "T", "Transpose", "View", "UnsafeView", "Unsqueeze", "NativeLayerNorm")
}
"""Nodes through which the gradients of many functions pass at once as exactly as one by one, and sooner where small."""

ACCUMULATE = "torch::autograd::AccumulateGrad"

_ROWS_AT = {"AddmmBackward0": 1, "MmBackward0": 0}
"""Products of matrices, and the place of the left one among what they take."""

SELECTING = {
    f"{name}Backward{number}"
    for number in range(3)
    for name in (
        *("T", "Transpose", "Permute", "View", "UnsafeView", "ReshapeAlias", "Unsqueeze", "Squeeze", "Clone"),
        *("Select", "Slice", "Split", "SplitWithSizes", "UnsafeSplit", "Unbind", "ToCopy", "Alias", "Diagonal"),
    )
}
"""Nodes whose output has some of the numbers that they take, each at most once, in any order."""

Edge = tuple[Any, int]
"""A node of the graph and the number of its output: a tensor of the forward pass."""


@dataclass(frozen=True)
class Segment:
    """A stretch of the backward pass: what is wanted from it, and the one edge through which it leads on."""

    wanted: tuple[Edge, ...]
    leads_on: Edge | None  # None in the last one


@dataclass(frozen=True)
class Head:
    """What the outputs are made of, if that is rows [N, d] times a matrix: the rows' edge, and the matrix [d, O]."""

    rows: Edge
    matrix: Tensor


class Graph:
    """Nodes behind the outputs, consumers before producers, and who takes which parameter.

    ``users`` of a parameter, by its ``id``, and ``consumers`` of a node's outputs are nodes, with the place at which
    they take it; ``leaves`` are the parameters' own edges. Between the tensor at ``end`` [N, O] and the outputs every
    entry goes its own way.

    parameters: all of them that matter. They need not be leaves of torch's graph (deep copies of scripted modules have
    others); what they were made of is not looked at.
    """

    def __init__(self, outputs: Tensor, parameters: Iterable[Tensor] = ()):
        self.root = get_gradient_edge(outputs)
        self.root_edge: Edge = self.root.node, self.root.output_nr
        self.leaves: dict[Edge, int] = {}
        for parameter in parameters:
            if not parameter.requires_grad:  # forward may have frozen it
                continue
            with torch._C.DisableTorchFunctionSubclass():  # of which a tensor's type may put nodes of its own between
                edge = get_gradient_edge(parameter)
            self.leaves[edge.node, edge.output_nr] = id(parameter)
        self.users: dict[int, list[Edge]] = defaultdict(list)
        self.consumers: dict[Any, list[Edge]] = defaultdict(list)
        self.following: dict[Any, list[Edge]] = {}
        self.nodes: list[Any] = []
        self._order(self.root.node)
        self.end = self.root_edge
        while (before := self._entry_by_entry(self.end)) is not None:
            self.end = before

    def _order(self, root: Any) -> None:
        """Depth first: a node stands after everything that consumes its output."""
        pending: list[tuple[Any, bool]] = [(root, False)]
        while pending:
            node, left = pending.pop()
            if left:
                self.nodes.append(node)
                continue
            if node in self.following:
                continue
            edges = []
            for place, (following, number) in enumerate(node.next_functions):
                if following is None:
                    continue
                if (key := self.leaves.get((following, number))) is not None:
                    self.users[key].append((node, place))
                elif following.name() != ACCUMULATE:
                    edges.append((following, number))
                    self.consumers[following].append((node, place))
            self.following[node] = edges
            pending.append((node, True))
            pending += [(following, False) for following, _ in edges]
        self.nodes.reverse()

    def takers(self, edge: Edge) -> list[Edge]:
        """The nodes that take the tensor at ``edge``, and at which place."""
        if (key := self.leaves.get(edge)) is not None:
            return self.users[key]
        return [(node, place) for node, place in self.consumers.get(edge[0], []) if node.next_functions[place] == edge]

    def outputs_of(self, node: Any) -> list[int]:
        """The numbers of those outputs of a node that are taken by others or are the network's."""
        taken = {each.next_functions[place][1] for each, place in self.consumers.get(node, [])}
        return sorted(taken | ({self.root_edge[1]} if node is self.root.node else set()))

    @cached_property
    def rounding(self) -> float:
        """Of the least precise numbers in the graph."""
        dtypes = {node._input_metadata[0].dtype for node in self.nodes if node._input_metadata}
        return max(torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point or dtype.is_complex)

    def _entry_by_entry(self, edge: Edge) -> Edge | None:
        """The one tensor whose entries, each for itself, make those of the tensor at ``edge``."""
        taken = [taken for taken in edge[0].next_functions if taken[0] is not None]
        if edge[0].name() not in ELEMENTWISE or taken != self.following[edge[0]] or len(taken) != 1:
            return None
        return taken[0] if edge_shape(taken[0]) == edge_shape(edge) else None

    def slopes(self, outputs: Tensor) -> Tensor:
        """[N, O]: derivatives of the outputs, each by its entry of the tensor at ``end``."""
        ones = torch.ones_like(outputs)
        if self.end == self.root_edge:
            return ones
        return torch.autograd.grad([self.root], [GradientEdge(*self.end)], [ones], retain_graph=True)[0]

    @property
    def batches(self) -> bool:
        """Whether all nodes are known to pass gradients of many functions at once."""
        return all(node.name() in BATCHED for node in self.nodes)

    def head(self, wanted: Sequence[Edge]) -> Head | None:
        """What the tensor at ``end`` is made of, if all that is wanted but this tensor itself lies behind its rows."""
        node: Any = self.end[0]
        place = _ROWS_AT.get(node.name())
        if place is None or getattr(node, "_saved_alpha", 1) != 1:
            return None
        leads = self._leads_to(Counter(behind for behind, _ in wanted if behind is not node))
        rows = node.next_functions[place]
        if [edge for edge in self.following[node] if edge[0] in leads] != [rows]:
            return None
        return Head(rows, node._saved_mat2.detach())

    def segments(self, wanted: Sequence[Edge]) -> list[Segment]:
        """Cut the backward pass wherever everything still wanted lies behind a single edge.

        Residual streams cut between blocks, plain stacks between layers. What is wanted must be in the graph.
        """
        remaining = Counter(node for node, _ in wanted)
        leads = self._leads_to(remaining)
        found: list[Segment] = []
        open_edges: set[Edge] = {self.root_edge}
        passed: list[Edge] = []
        wanted_of: dict[Any, list[Edge]] = {}
        for edge in dict.fromkeys(wanted):
            wanted_of.setdefault(edge[0], []).append(edge)
        left = sum(map(len, wanted_of.values()))
        for node in self.nodes:
            if node not in leads:
                continue
            here = wanted_of.get(node, [])
            passed += here
            left -= len(here)
            (only,) = open_edges if len(open_edges) == 1 else (None,)
            if only is not None and passed and left:
                found.append(Segment(tuple(passed), only))
                passed = []
            open_edges = {edge for edge in open_edges if edge[0] is not node}
            open_edges |= {edge for edge in self.following[node] if edge[0] in leads}
            if not left:
                break
        found.append(Segment(tuple(passed), None))
        return found

    def _leads_to(self, targets: Counter[Any]) -> set[Any]:
        """The nodes from which some target can be reached, the targets among them."""
        leads: set[Any] = set()
        for node in reversed(self.nodes):
            if node in targets or any(following in leads for following, _ in self.following[node]):
                leads.add(node)
        return leads


def dense(gradient: Tensor) -> Tensor:
    """The gradient itself, or every entry of it where autograd keeps those only that are not zero."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def edge_shape(edge: Edge) -> torch.Size:
    """Shape of the tensor that an edge stands for."""
    return torch.Size(edge[0]._input_metadata[edge[1]].shape)


def signed(dim: int) -> int:
    """A dimension that a node has saved: negative ones are kept without their sign, modulo 2⁶⁴."""
    return dim - 2**64 if dim >= 2**63 else dim


def edge_dtype(edge: Edge) -> torch.dtype:
    """Type of the numbers of the tensor that an edge stands for."""
    return edge[0]._input_metadata[edge[1]].dtype
