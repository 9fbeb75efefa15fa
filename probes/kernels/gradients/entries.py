"""Where parameters meet the batch: each one followed through the graph, whatever lies between.

From a parameter the walk goes from node to node towards the outputs. A node whose output has rows of data points is
where it ends: an entry. What lies before it is made of parameters alone as far as points are concerned: views and
casts, products of two parameters, norms, whole networks on constants. ∂f_n/∂parameter is the sum over all entries of
what the entry's rows of point n say of the tensor that enters, taken on to the parameter by the chain rule. Every path
from the parameter to the outputs goes through an entry, at the latest the outputs themselves, so that none is missed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tangentscope.probes.kernels.gradients.autograd_graph import SELECTING, Edge, Graph, edge_dtype, edge_shape, signed
from tangentscope.probes.kernels.gradients.row_layouts import Grid, Layout
from tangentscope.probes.kernels.gradients.row_ownership import Ownership

AHEAD = 16
"""Nodes whose rows are looked for before it is known that they matter: three passes find those of many."""


@dataclass(frozen=True)
class Entry:
    """A node that takes, at ``place``, a tensor made of parameters, and gives rows that belong to points.

    source: the edge of that tensor. number, layout: of the node's output.
    """

    node: Any
    number: int
    place: int
    source: Edge
    layout: Layout

    @property
    def edge(self) -> Edge:
        """Of the output."""
        return self.node, self.number


@dataclass(frozen=True)
class Chain:
    """How the tensor at ``source`` is made of one parameter.

    form: its numbers are the parameter's in their order (``flat``), those of each matrix transposed (``flipped``), some
    of them in some order (``selected``), rows of a table looked up (``looked up``), or anything (``computed``).
    steps: the nodes between, from the parameter on, as far as they only select. signature: equal for equal selections.
    """

    source: Edge
    parameter: nn.Parameter
    form: Literal["flat", "flipped", "selected", "looked up", "computed"]
    steps: tuple[Edge, ...] = ()
    signature: tuple[object, ...] = ()

    @property
    def shape(self) -> torch.Size:
        """Of the tensor at ``source``."""
        return edge_shape(self.source) if self.steps or self.form == "computed" else self.parameter.shape


class Entries:
    """All entries of the parameters of a graph.

    pattern: those of several points, for the graph of a single one, to which everything belongs.
    """

    def __init__(self, graph: Graph, ownership: Ownership, pattern: "Entries | None" = None):
        self.graph = graph
        self._at: dict[Edge, list[Entry]] = {}
        self._onward: dict[Edge, list[Edge]] = {}
        self._rows: dict[Any, dict[int, Layout] | None] = {}  # by node: the layouts of its outputs, None if it has none
        if pattern is not None:
            self._rows = pattern._of_one_point(graph)
        self._walk(ownership)

    def of(self, parameter: nn.Parameter) -> list[tuple[Entry, Chain]] | None:
        """Of one parameter; None where a tensor that enters is itself made of rows of points, or gradients mix them."""
        start = next(edge for edge, key in self.graph.leaves.items() if key == id(parameter))
        found, pending, seen = [], [start], {start}
        while pending:
            edge = pending.pop()
            if entries := self._at.get(edge):
                if any(_counts_all_points(entry.node) for entry in entries):
                    return None
                chain = self._chain(edge, start, parameter)
                if chain.form == "computed" and not self._apart_from_rows(edge):
                    return None
                found += [(entry, chain) for entry in entries]
            onward = [one for one in self._onward.get(edge, []) if one not in seen]
            seen.update(onward)
            pending += onward
        return found

    @property
    def key(self) -> int:
        """Hash of where entries are and how rows lie there."""
        place = {node: number for number, node in enumerate(self.graph.nodes)}
        rows = [
            (place[node], number, layout.dim, layout.before if isinstance(layout, Grid) else -1)
            for node, layouts in self._rows.items()
            if layouts is not None
            for number, layout in layouts.items()
        ]
        return hash(tuple(sorted(rows)))

    def _of_one_point(self, graph: Graph) -> dict[Any, dict[int, Layout] | None]:
        """Which nodes of a single point's graph have rows, if it is made alike, and along which dimension."""
        names = [[node.name() for node in nodes] for nodes in (self.graph.nodes, graph.nodes)]
        if names[0] != names[1]:
            return {}
        rows: dict[Any, dict[int, Layout] | None] = {}
        for ours, node in zip(self.graph.nodes, graph.nodes, strict=True):
            if ours in self._rows:
                layouts = self._rows[ours]
                rows[node] = layouts and {
                    number: Grid(1, edge_shape((node, number))[at.dim], at.dim) for number, at in layouts.items()
                }
        return rows

    def _walk(self, ownership: Ownership) -> None:
        pending, waiting = list(self.graph.leaves), []
        while pending:
            undecided: dict[Any, list[int]] = {}
            while pending:
                edge = pending.pop()
                if edge in self._at:
                    continue
                takers = self.graph.takers(edge)
                if open_ones := [node for node, _ in takers if not self._decided(node, ownership)]:
                    undecided |= {node: self.graph.outputs_of(node) for node in open_ones}
                    waiting.append(edge)
                    continue
                self._at[edge], self._onward[edge] = [], []
                for node, place in takers:
                    if (layouts := self._rows[node]) is not None:
                        self._at[edge] += [Entry(node, number, place, edge, at) for number, at in layouts.items()]
                    else:
                        self._onward[edge] += [(node, number) for number in self.graph.outputs_of(node)]
                pending += self._onward[edge]
            self._look_ahead(undecided, ownership)
            edges = [(node, number) for node, numbers in undecided.items() for number in numbers]
            found = ownership.proven(edges)
            for node, numbers in undecided.items():
                layouts = {number: found[node, number] for number in numbers if (node, number) in found}
                self._rows[node] = layouts if len(layouts) == len(numbers) else None
            pending, waiting = waiting, []

    def _look_ahead(self, undecided: dict[Any, list[int]], ownership: Ownership) -> None:
        """Add some of the nodes that come next: if these have no rows, passes for those are saved."""
        pending, most, seen = list(undecided), 2 * len(undecided) + AHEAD, set(undecided)
        while pending and len(undecided) < most:
            for taker, _ in self.graph.consumers.get(pending.pop(0), []):
                if taker in seen:
                    continue
                seen.add(taker)
                if not self._decided(taker, ownership):
                    undecided[taker] = self.graph.outputs_of(taker)
                if self._rows.get(taker) is None:
                    pending.append(taker)

    def _decided(self, node: Any, ownership: Ownership) -> bool:
        """Whether the graph alone tells if a node gives rows of points; notes it then."""
        if node in self._rows:
            return True
        edges = [(node, number) for number in self.graph.outputs_of(node)]
        shown = {edge[1]: layout for edge in edges if (layout := ownership.shown(edge))}
        if node.name() in SELECTING or not all(map(ownership.possible, edges)):
            self._rows[node] = None
        elif len(shown) == len(edges):
            self._rows[node] = shown
        return node in self._rows

    def _apart_from_rows(self, source: Edge) -> bool:
        """Whether nothing that the tensor at ``source`` is made of has rows of points, so that no path counts twice."""
        pending, seen = [source[0]], set()
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            if self._rows.get(node) is not None:
                return False
            pending += [behind for behind, _ in self.graph.following.get(node, [])]
        return True

    def _chain(self, source: Edge, start: Edge, parameter: nn.Parameter) -> Chain:
        steps: list[Edge] = []
        edge = source
        while edge != start:
            node = edge[0]
            taken = [one for one in node.next_functions if one[0] is not None]
            looked_up = looked_up_by(node)
            if looked_up is not None and taken == [start]:
                steps.append(edge)
                break
            if node.name() not in SELECTING or len(taken) != 1 or edge_dtype(edge).is_complex:
                return Chain(source, parameter, "computed")
            steps.append(edge)
            edge = taken[0]
        steps.reverse()
        looked_up = bool(steps) and looked_up_by(steps[0][0]) is not None
        form = "looked up" if looked_up else _form(steps, parameter.shape)
        signature = tuple(map(_signature, steps)) if form == "selected" else ()
        return Chain(source, parameter, form, tuple(steps), signature)


def looked_up_by(node: Any) -> Tensor | None:
    """The rows that a node looks up in a table, whole rows each; None if it does anything else."""
    name = node.name()
    if name == "EmbeddingBackward0" and not node._saved_scale_grad_by_freq:
        return node._saved_indices
    if name == "IndexSelectBackward0" and node._saved_dim == 0:
        return node._saved_index
    if name == "IndexBackward0":
        first, *others = node._saved_indices
        if first is not None and first.dtype == torch.int64 and all(index is None for index in others):
            return first % node._saved_self_sym_sizes[0]  # negative ones count from the end
    return None


def _counts_all_points(node: Any) -> bool:
    """Whether gradients of a look-up are divided by how often a row is looked up, by any point."""
    return bool(getattr(node, "_saved_scale_grad_by_freq", False))


def disjoint(chains: Collection[Chain]) -> bool:
    """Whether selections of one parameter have no number in common, as far as their first steps tell."""
    firsts = [chain.signature[0] for chain in chains if chain.signature]
    if len(firsts) < len(chains) or len({first[:2] for first in firsts}) > 1:  # pyright: ignore[reportIndexIssue]
        return False
    return firsts[0][0] in _DISJOINT and len({first[2] for first in firsts}) == len(firsts)  # pyright: ignore


_DISJOINT = {
    f"{name}Backward{number}" for name in ("Split", "SplitWithSizes", "UnsafeSplit", "Unbind") for number in (0, 1)
}
"""Nodes whose outputs, by number, are different parts of what they take."""


def _signature(step: Edge) -> tuple[object, ...]:
    node, number = step
    saved = tuple(
        (name, value)
        for name in dir(node)
        if name.startswith("_saved_") and not isinstance(value := getattr(node, name), Tensor | tuple | list)
    )
    sizes = tuple(
        value
        for name in dir(node)
        if name.startswith("_saved_") and isinstance(value := getattr(node, name), tuple) and _plain(value)
    )
    return node.name(), (saved, sizes), number, tuple(edge_shape(step))


def _plain(values: Sequence[object]) -> bool:
    return all(isinstance(value, int) for value in values)


def _form(steps: Sequence[Edge], shape: torch.Size) -> Literal["flat", "flipped", "selected"]:
    if not steps:
        return "flat"
    if len(steps) == 1 and steps[0][0].name() == "TBackward0":
        return "flipped"
    numbers = torch.empty(shape, device="meta")
    for step in steps:
        moved = _moved(numbers, step)
        if moved is None:
            return "selected"
        numbers = moved
    if numbers.numel() == shape.numel():
        if numbers.is_contiguous():
            return "flat"
        if numbers.dim() > 1 and numbers.transpose(-2, -1).is_contiguous():
            return "flipped"
    return "selected"


def _moved(numbers: Tensor, step: Edge) -> Tensor | None:
    """A view of ``numbers`` as a node makes it; None where their order cannot be followed further."""
    node, shape = step[0], edge_shape(step)
    name = node.name().partition("Backward")[0]
    if name == "T":
        return numbers.t()
    if name == "Transpose":
        return numbers.transpose(*(signed(dim) for dim in (node._saved_dim0, node._saved_dim1)))
    if name == "Permute":
        return numbers.permute([signed(dim) for dim in node._saved_dims])
    if name in ("ToCopy", "Alias"):
        return numbers
    if shape.numel() != numbers.numel() or (name == "Clone" and not numbers.is_contiguous()):
        return None
    try:
        return numbers.view(shape)  # also of what only adds or drops dimensions of one
    except RuntimeError:
        return None
