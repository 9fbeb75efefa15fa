"""A forward pass as the engine sees it: in which cheap forms the per-sample gradients of its parameters come.

A share is a set of parameters with all their uses: a layer's weight and bias, a weight that several layers tie, one
part of a matrix that holds three projections. What no share covers goes to per-sample Jacobians.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch

from tangentscope.probes.kernels.gradients.autograd_graph import Edge, Graph, edge_shape
from tangentscope.probes.kernels.gradients.chain_rule import Making, through_lookup
from tangentscope.probes.kernels.gradients.entries import Chain, Entries, Entry, disjoint
from tangentscope.probes.kernels.gradients.per_sample import Outer, Part, Use
from tangentscope.probes.kernels.gradients.rules import RULES, joint_part_of, part_of
from tangentscope.probes.network.layers import Anatomy


@dataclass(frozen=True)
class Share:
    """Parameters that enter the kernel together, and where in the graph.

    owner: name of the module that has the parameters, the first one of tied ones; "" is the network itself.
    kind: the type of that module.
    parameters: their full names.
    uses: edges of the graph, with the per-sample gradients that a rule makes of gradients there.
    numbers: how many of the parameters' numbers it has.
    ends: its one use gives the tensor at the graph's ``end``, so that B of an output is zero but at its own.
    chain: by which the gradient, that of a selection of the parameter's numbers, would be taken on to the parameter.
    """

    owner: str
    kind: str
    parameters: tuple[str, ...]
    uses: tuple[tuple[Edge, Part], ...]
    numbers: int
    ends: bool = False
    chain: Chain | None = None

    @cached_property
    def outer(self) -> list[Outer] | None:
        """The uses if rows of all of them can stand after one another in one sum of outer products, else None."""
        parts = [part for _, part in self.uses if isinstance(part, Outer)]
        return parts if len(parts) == len(self.uses) and len({part.form for part in parts}) == 1 else None

    @cached_property
    def places(self) -> list[slice]:
        """Of the rows of every use among those of all uses."""
        ends = [0, *accumulate(part.rows for part in self.outer or [])]
        return [slice(*pair) for pair in pairwise(ends)]

    @property
    def rows(self) -> int:
        """T, over all uses."""
        return self.places[-1].stop if self.places else 0

    @property
    def late(self) -> bool:
        """Whether gradients ask the graph for what the forward pass saved."""
        return any(part.late for _, part in self.uses)

    @property
    def signature(self) -> tuple[object, ...]:
        """What two forward passes of one network must have in common."""
        form = self.outer[0].form if self.outer else tuple(part.width for _, part in self.uses[:1])
        return (self.parameters, len(self.uses), form, self.ends, self.chain.signature if self.chain else ())


Place = tuple[Any, int]
"""A node of the graph and the number of its output."""


def shares_of(anatomy: Anatomy, graph: Graph, entries: Entries) -> list[Share]:
    """All shares of a forward pass, in the order of the parameters."""
    found: dict[str, list[tuple[Entry, Chain]]] = {}
    for name, parameter in anatomy.trainable.items():
        if graph.users[id(parameter)] and (uses := entries.of(parameter)):
            found[name] = uses
    shapes: dict[Place, dict[int, torch.Size]] = defaultdict(dict)
    for uses in found.values():
        for entry, chain in uses:
            shapes[entry.edge][entry.place] = chain.shape
    workshop = _Workshop(anatomy, graph, shapes)
    shares: list[Share] = []
    pairs = _pairs(found)
    for names in pairs:
        together = workshop.joint({name: found[name] for name in names})
        for name in [] if together else names:
            shares += workshop.alone(name, found[name])
        shares += [together] if together else []
    return shares


def _pairs(found: dict[str, list[tuple[Entry, Chain]]]) -> list[list[str]]:
    """Names of parameters, those together that enter the same nodes once each and nowhere else, in their own order."""
    by_nodes: dict[tuple[Place, ...], list[str]] = {}
    alone: list[list[str]] = []
    for name, uses in found.items():
        nodes = tuple(sorted({entry.edge for entry, _ in uses}, key=lambda edge: (id(edge[0]), edge[1])))
        if len(nodes) == len(uses) and all(chain.form in ("flat", "flipped") for _, chain in uses):
            by_nodes.setdefault(nodes, []).append(name)
        else:
            alone.append([name])
    return [*by_nodes.values(), *alone]


@dataclass(frozen=True)
class _Workshop:
    """What shares are made with.

    shapes: by node, of what it takes that is made of parameters. makings: of tensors that are computed from several.
    """

    anatomy: Anatomy
    graph: Graph
    shapes: dict[Place, dict[int, torch.Size]]
    makings: dict[Edge, Making] = field(default_factory=dict)

    def use(self, entry: Entry) -> Use:
        return Use(entry.node, entry.number, entry.layout, self.shapes[entry.edge])

    def joint(self, found: dict[str, list[tuple[Entry, Chain]]]) -> Share | None:
        """Weight and bias as one share; None if they are no such pair, or cheaper apart."""
        if len(found) != 2:
            return None
        first, second = (sorted(uses, key=lambda use: id(use[0].node)) for uses in found.values())
        names = list(found)
        if first[0][0].place == _bias_place(first[0][0].node):
            first, second, names = second, first, names[::-1]
        parts: list[tuple[Edge, Part]] = []
        for (entry, chain), (other, _) in zip(first, second, strict=True):
            places = frozenset({entry.place, other.place})
            if other.place != _bias_place(other.node) or not (part := joint_part_of(self.use(entry), places)):
                return None
            if chain.form == "flipped" and not _is_matrix(entry, chain):
                return None
            parts.append((entry.edge, oriented(part, chain)))
        share = self._share(tuple(names), parts)
        return share if len(parts) == 1 or share.outer or not isinstance(parts[0][1], Outer) else None

    def alone(self, name: str, uses: Sequence[tuple[Entry, Chain]]) -> list[Share]:
        """The share of one parameter, or several of parts of it that have nothing in common."""
        by_signature: dict[tuple[object, ...], list[tuple[Entry, Chain]]] = defaultdict(list)
        for entry, chain in uses:
            by_signature[chain.signature].append((entry, chain))
        selected = all(chain.form == "selected" for _, chain in uses)
        if selected and (len(by_signature) == 1 or disjoint([group[0][1] for group in by_signature.values()])):
            return [
                self._share(
                    (name,),
                    [(entry.edge, part_of(self.use(entry), entry.place)) for entry, _ in group],
                    chain=group[0][1],
                )
                for group in by_signature.values()
            ]
        return [self._share((name,), [(entry.edge, self._mapped(entry, chain)) for entry, chain in uses])]

    def _mapped(self, entry: Entry, chain: Chain) -> Part:
        """The gradient of the parameter itself."""
        use = self.use(entry)
        part = part_of(use, entry.place)
        if chain.form == "flat":
            return part
        if chain.form == "flipped" and isinstance(part, Outer) and _is_matrix(entry, chain):
            return oriented(part, chain)
        if chain.form == "looked up" and len(chain.parameter.shape) == 2:
            return through_lookup(part, chain, entry.layout.points)
        making = self.makings.setdefault(chain.source, Making(chain.source))
        return making.along(chain, part, (entry.edge, entry.place))

    def _share(
        self,
        names: tuple[str, ...],
        uses: Sequence[tuple[Edge, Part]],
        chain: Chain | None = None,
    ) -> Share:
        owner = names[0].rpartition(".")[0]
        whole = sum(self.anatomy.trainable[name].numel() for name in names)
        numbers = chain.shape.numel() if chain else whole
        # Of the shapes that rules know, [N, O] is that of one group and T = 1.
        ends = [edge for edge, _ in uses] == [self.graph.end] and _is_ending(uses[0])
        return Share(owner, self.anatomy.kinds[owner], names, tuple(uses), numbers, ends, chain)


def _is_ending(use: tuple[Edge, Part]) -> bool:
    edge, part = use
    return isinstance(part, Outer) and part.groups == 1 and part.rows == 1 and part.outputs == edge_shape(edge)[1]


def _is_matrix(entry: Entry, chain: Chain) -> bool:
    """Whether a rule takes the last two dimensions for those of a matrix; convolutions take others."""
    return len(chain.shape) == 2 or (
        len(chain.shape) == 3 and entry.node.name() in ("BmmBackward0", "BaddbmmBackward0")
    )


def _bias_place(node: Any) -> int | None:
    rule = RULES.get(node.name())
    return rule.bias if rule else None


def oriented(part: Part, chain: Chain) -> Part:
    """The gradient in the order of the parameter, of which the tensor that enters is each matrix transposed."""
    if chain.form == "flipped" and isinstance(part, Outer):
        return replace(part, transposed=not part.transposed)
    return part
