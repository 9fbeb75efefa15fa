"""A forward pass as the engine sees it: which layers' rules are exact here, and which parameters they cover.

A share is a set of parameters with all their uses: a layer's weight and bias, or a weight that several layers tie. A
rule covers a parameter only if the autograd graph shows no use of it beside the calls that the rule has seen.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from probes.kernels.anatomy import Anatomy
from probes.kernels.bare import bare_uses
from probes.kernels.batch import Batch
from probes.kernels.graph import Edge, Graph
from probes.kernels.layouts import agree, find_layout
from probes.kernels.observe import LayerCall, watch
from probes.kernels.ownership import Proof
from probes.kernels.parts import Call, Outer, Part


@dataclass(frozen=True)
class Share:
    """Parameters that enter the kernel together, and where in the graph.

    owner: name of the module that has the parameters, the first one of tied ones; "" is the network itself.
    kind: the type of that module.
    parameters: their full names.
    uses: edges of the layer's outputs, with the per-sample gradients that a rule makes of gradients there.
    ends: the layer's one use gives the tensor at the graph's ``end``, so that B of an output is zero but at its own.
    """

    owner: str
    kind: str
    parameters: tuple[str, ...]
    uses: tuple[tuple[Edge, Part], ...]
    ends: bool = False

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
    def signature(self) -> tuple[object, ...]:
        """What two forward passes of one network must have in common."""
        return (self.parameters, len(self.uses), self.outer is None, self.ends)


@dataclass
class Observation:
    """One forward pass of ``batch``: outputs [N, O], their graph, and the shares that rules cover."""

    batch: Batch
    outputs: Tensor
    graph: Graph
    shares: list[Share]


NO_DEPENDENCE = (
    "the model's outputs do not depend on any trainable parameter, expected a differentiable function: "
    "remove detach() or no_grad() from its forward"
)

Alone = tuple[Tensor, list[LayerCall]]
"""Outputs and layer calls of the last point of a batch by itself."""


def observe(anatomy: Anatomy, batch: Batch, alone: Alone | None = None) -> tuple[Observation, Alone]:
    """Run the network on ``batch``, and on its last point alone unless that is given.

    The point alone tells which rows inside the network are its own, and shows a network that mixes points.

    Raises:
        TypeError, ValueError: outputs that are no [N, ...] of a differentiable function of each point, see
            ``tangent_kernel``.
    """
    model = anatomy.model
    # Global hooks come before ours, and may have replaced the layers' outputs.
    layers = () if torch.nn.modules.module._global_forward_hooks else tuple(anatomy.layers)
    found, calls = watch(model, layers, batch)
    outputs = _checked_outputs(found, len(batch))
    if len(batch) == 1:
        alone = outputs, calls
    elif alone is None:
        found, lone_calls = watch(model, layers, batch.take(torch.tensor([len(batch) - 1])))
        alone = _checked_outputs(found, 1), lone_calls
    check_apart(outputs[-1], alone[0][0], anatomy.rounding, among=outputs)
    graph = Graph(outputs)
    if not any(graph.uses[key] for key in anatomy.names):
        raise ValueError(NO_DEPENDENCE)
    if any("CheckpointFunction" in node.name() for node in graph.nodes):
        raise ValueError(
            f"{type(model).__name__} hides parameters from autograd by reentrant checkpointing: "
            "pass use_reentrant=False to torch.utils.checkpoint"
        )
    shares = _layer_shares(anatomy, batch, graph, outputs, calls, alone[1])
    shares += _bare_shares(anatomy, batch, graph, outputs, shares)
    return Observation(batch, outputs, graph, shares), alone


def check_apart(outputs: Tensor, alone: Tensor, tolerance: float, among: Tensor) -> None:
    """ValueError unless a point's outputs in a batch are those that it has alone; `among`: the outputs of all."""
    if not agree(alone, outputs, tolerance, among):
        raise ValueError(
            "the outputs of a data point change with the other points of the batch or from call to call, expected row "
            "i to be a function of input i alone: put the batch dimension first (batch_first=True) and make eval mode "
            "deterministic (no dropout, running statistics in batch norm)"
        )


def check_shape(found: object, points: int) -> Tensor:
    """What a network returned, if it is a tensor of numbers [N, ...].

    Raises:
        TypeError, ValueError: it is not.
    """
    if not isinstance(found, Tensor) or not found.is_floating_point():
        got = f"a {found.dtype} tensor" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise TypeError(f"the model returned {got}, expected a floating-point tensor [N, ...]: wrap it to return one")
    if found.dim() == 0 or len(found) != points or found.numel() == 0:
        raise ValueError(
            f"the model's outputs have shape {list(found.shape)} for {points} inputs, expected "
            f"[{points}, ...]: give the model and the inputs a leading batch dimension"
        )
    return found


def _checked_outputs(returned: object, points: int) -> Tensor:
    """The network's outputs as [N, O]."""
    found = check_shape(returned, points)
    if not found.requires_grad:
        raise ValueError(NO_DEPENDENCE)
    return found if found.dim() == 2 else found.reshape(points, -1)  # what ends the network stays in sight


def _layer_shares(
    anatomy: Anatomy,
    batch: Batch,
    graph: Graph,
    outputs: Tensor,
    calls: Sequence[LayerCall],
    alone: Sequence[LayerCall],
) -> list[Share]:
    proposed = _proposed_calls(anatomy, batch, graph, calls, alone)
    proof = Proof(graph, outputs, list(dict.fromkeys(edge for edge, _ in proposed)), anatomy.rounding)
    exact = [(edge, call) for edge, call in proposed if proof.holds(edge, call.layout)]
    del proof
    seen: dict[int, int] = defaultdict(int)  # by id of the parameter: uses in calls that a rule covers
    users: dict[int, set[nn.Module]] = defaultdict(set)
    for _, call in exact:
        for parameter in anatomy.layers[call.module].parameters.values():
            seen[id(parameter)] += 1
            users[id(parameter)].add(call.module)

    uses: dict[tuple[int, ...], list[tuple[Edge, Part]]] = defaultdict(list)
    for edge, call in exact:
        layer = anatomy.layers[call.module]
        covered = {
            name: id(parameter)
            for name, parameter in layer.parameters.items()
            if seen[id(parameter)] == graph.uses[id(parameter)]
        }
        together = layer.rule.joins(call) and len({frozenset(users[key]) for key in covered.values()}) == 1
        for group in [list(covered)] if together else [[name] for name in covered]:
            if group:
                uses[tuple(covered[name] for name in group)].append((edge, layer.rule.part(call, frozenset(group))))
    shares = []
    for keys, found in uses.items():
        parameters = tuple(anatomy.names[key] for key in keys)
        owner = parameters[0].rpartition(".")[0]
        ends = _ends(graph, found)
        shares.append(Share(owner, anatomy.kinds[owner], parameters, tuple(found), ends))
    return shares


def _ends(graph: Graph, uses: Sequence[tuple[Edge, Part]]) -> bool:
    """Of the shapes that rules know, [N, O] is that of one group and T = 1."""
    return [edge for edge, _ in uses] == [graph.end] and isinstance(uses[0][1], Outer)


def _bare_shares(anatomy: Anatomy, batch: Batch, graph: Graph, outputs: Tensor, known: Sequence[Share]) -> list[Share]:
    covered = {name for share in known for name in share.parameters}
    remaining = {
        name: parameter
        for name, parameter in anatomy.trainable.items()
        if name not in covered and graph.uses[id(parameter)]
    }
    return [
        Share(owner := name.rpartition(".")[0], anatomy.kinds[owner], (name,), tuple(uses))
        for name, uses in bare_uses(graph, outputs, batch, remaining, anatomy.rounding).items()
    ]


def _proposed_calls(
    anatomy: Anatomy, batch: Batch, graph: Graph, calls: Sequence[LayerCall], alone: Sequence[LayerCall]
) -> list[tuple[Edge, Call]]:
    """The calls that the outputs depend on and whose rule is exact if rows belong to whom the last point suggests."""
    if [call.module for call in calls] != [call.module for call in alone]:
        return []  # what is called depends on the data: no telling which rows belong to whom
    exact = []
    for call, lone in zip(calls, alone, strict=True):
        if call.edge is None or call.edge.node not in graph.place or not call.own_parameters:
            continue
        layout = None
        if call.intact:
            layout = find_layout(call.inputs, call.outputs_shape, lone.inputs, batch, anatomy.rounding)
        if layout is None:
            continue
        described = Call(call.module, call.inputs, call.outputs_shape, layout)
        if anatomy.layers[call.module].rule.applies(described):
            exact.append(((call.edge.node, call.edge.output_nr), described))
    return exact
