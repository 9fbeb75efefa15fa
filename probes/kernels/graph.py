"""The autograd graph of one forward pass: who uses which parameter, and the backward sweep in segments."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from probes.kernels.treatment import OutputRows

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

_ROWS_AT = {"AddmmBackward0": 1, "MmBackward0": 0}
"""Products of matrices, and the place of the left one among what they take."""

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
    """Nodes behind the outputs, consumers before producers, and how often each leaf is used.

    ``uses`` counts by ``id`` of the leaf what module hooks cannot see: tied weights, functional uses of a weight.
    ``users`` of a leaf, by its ``id``, and ``consumers`` of a node's output are nodes, with the place at which they
    take it. Between the tensor at ``end`` [N, O] and the outputs every entry goes its own way.
    """

    def __init__(self, outputs: Tensor):
        self.root = get_gradient_edge(outputs)
        self.root_edge: Edge = self.root.node, self.root.output_nr
        self.uses: Counter[int] = Counter()
        self.users: dict[int, list[Edge]] = defaultdict(list)
        self.consumers: dict[Any, list[Edge]] = defaultdict(list)
        self.following: dict[Any, list[Edge]] = {}
        self.nodes: list[Any] = []
        self._order(self.root.node)
        self.place = {node: number for number, node in enumerate(self.nodes)}
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
                if following.name() == "torch::autograd::AccumulateGrad":
                    self.users[id(following.variable)].append((node, place))
                else:
                    edges.append((following, number))
                    self.consumers[following].append((node, place))
            self.following[node] = edges
            pending.append((node, True))
            pending += [(following, False) for following, _ in edges]
        self.nodes.reverse()
        for leaf, users in self.users.items():
            # Autocast casts a parameter once for all its uses.
            casts = [node for node, _ in users if node.name() == "ToCopyBackward0"]
            self.uses[leaf] = len(users) + sum(len(self.consumers[node]) - 1 for node in casts)

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


def merged(segments: Sequence[Segment], size: Callable[[Edge], int], budget: int) -> list[Segment]:
    """Neighbouring segments joined while what they want fits the budget: fewer, longer backward passes."""
    joined: list[Segment] = []
    held = 0
    for segment in segments:
        needed = sum(size(edge) for edge in segment.wanted)
        if joined and held + needed <= budget:
            joined[-1] = Segment(joined[-1].wanted + segment.wanted, segment.leads_on)
            held += needed
        else:
            joined.append(segment)
            held = needed
    return joined


def edge_shape(edge: Edge) -> torch.Size:
    """Shape of the tensor that an edge stands for."""
    return torch.Size(edge[0]._input_metadata[edge[1]].shape)


def sweep(
    graph: Graph,
    rows: OutputRows,
    slopes: Tensor,
    segments: Sequence[Segment],
    collect: Callable[[Edge, int, Tensor], None],
    together: bool = False,
) -> Iterator[int]:
    """One backward pass for each function of ``rows``, all of them segment by segment; yields after each segment.

    slopes: see ``Graph.slopes``. ``collect(edge, k, gradient)`` is called for every wanted edge that the outputs depend
    on. What the forward pass saved is freed as the sweep passes it. Between segments only the gradients at one edge are
    held.
    together: one pass for all functions, where there is one segment and ``graph.batches``.
    """
    head = graph.head([edge for segment in segments for edge in segment.wanted])
    entered = GradientEdge(*head.rows) if head else graph.root
    count = rows.functions

    def started(k: int) -> Tensor:
        gradient = rows.cotangent(k, slopes)
        if head is None:
            return gradient
        gradient *= slopes
        if graph.end in segments[0].wanted:
            collect(graph.end, k, gradient)
        # Most often of one output: many outputs times many points would be the dearest product of all.
        chosen = rows.outputs_of(k)
        return gradient[:, chosen] @ head.matrix.T[chosen]

    held: list[Tensor | None] = []
    for number, segment in enumerate(segments):
        leads_on = segment.leads_on
        if head and leads_on == graph.end:  # nothing lies between that and the outputs
            held = [started(k) for k in range(count)]
            yield number
            continue
        wanted: list[Edge] = [*segment.wanted]
        if leads_on and leads_on not in wanted:
            wanted.append(leads_on)
        next_held: list[Tensor | None] = [None] * count
        seeds = _let_go(held) if number else map(started, range(count))
        for k, found in enumerate(_backward(entered, wanted, seeds, count, together)):
            for edge, value in zip(wanted, found, strict=True):
                if value is not None and edge in segment.wanted:
                    collect(edge, k, value)
                if edge == leads_on:
                    next_held[k] = value
        held, entered = next_held, GradientEdge(*leads_on) if leads_on else graph.root
        yield number


def _let_go(held: list[Tensor | None]) -> Iterator[Tensor | None]:
    while held:
        yield held.pop(0)


def _backward(
    entered: GradientEdge, wanted: Sequence[Edge], seeds: Iterable[Tensor | None], count: int, together: bool
) -> Iterator[tuple[Tensor | None, ...]]:
    """For each of ``count`` seeds at the edge entered, the gradients at the edges wanted; frees what it passes."""
    edges = [GradientEdge(*edge) for edge in wanted]
    if together:
        seeds = [seed for seed in seeds if seed is not None]
        if (found := _at_once(entered, edges, torch.stack(seeds))) is not None:
            yield from zip(*([None] * count if values is None else values for values in found), strict=True)
            return
    for k, seed in enumerate(seeds):
        if seed is None:
            yield (None,) * len(edges)
        else:
            yield torch.autograd.grad([entered], edges, [seed], retain_graph=k + 1 < count, allow_unused=True)


def _at_once(entered: GradientEdge, edges: Sequence[GradientEdge], seeds: Tensor) -> tuple[Tensor | None, ...] | None:
    """The gradients of all seeds [count, ...] in one pass; None where a hook asks for their numbers."""
    with suppress(RuntimeError):
        return torch.autograd.grad(
            [entered], edges, [seeds], is_grads_batched=True, retain_graph=True, allow_unused=True
        )
    return None
