"""The last linear layer of a network, found by what its autograd graph does after it.

From the outputs the walk goes back through nodes that only move numbers, scale them by a constant or add one to them,
until it meets a product with a weight that is made of parameters alone. What is multiplied there are the features.
That is proved by numbers: gradients say which row of the product a data point's outputs are, and by what they are
scaled; outputs less features times weight are then the same for all data points (see ``last_layer``).

Shapes: N data points, O outputs, p features, R rows of the product, K of its columns.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from tangentscope.probes.features.products import PRODUCTS, Product
from tangentscope.probes.kernels.gradients.autograd_graph import RESHAPING, SELECTING, Edge, Graph, edge_shape
from tangentscope.probes.kernels.gradients.entries import Chain, Entries
from tangentscope.probes.kernels.gradients.row_ownership import Ownership
from tangentscope.probes.network.batch import Batch
from tangentscope.probes.network.layers import Anatomy

MOVING = (
    SELECTING | RESHAPING | {f"{name}Backward0" for name in ("Index", "IndexSelect", "Gather", "Flip", "Cat", "Stack")}
)
"""Nodes whose results are some of the numbers that they take."""

AFFINE = {f"{name}Backward{kind}" for name in ("Add", "Sub", "Rsub", "Mul", "Div", "Neg") for kind in (0, 1)}
"""Nodes that scale what comes of the data, or add to it, if all else that they take are constants."""

DIGIT = 32
"""Numbers up to here are told apart after rounding in any floating-point type."""


class NoLastLayerError(ValueError):
    """A network whose outputs are no linear function of features, or of several layers' features."""


@dataclass(frozen=True)
class Head:
    """The last linear layer of a network.

    name: of its module, "" for the network itself. parameters: by id, those that its weight is made of. path: the nodes
    from the outputs back to the product, by name, and the place at which each takes the next. kind: the product's name.
    place: of the data in it. weight: [p, K].
    """

    name: str
    parameters: frozenset[int]
    path: tuple[tuple[str, int], ...]
    kind: str
    place: int
    weight: Tensor

    def read(self, graph: Graph, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, p] of one forward pass, and the weight [O, p] by which they come to its outputs [N, O].

        Raises:
            NoLastLayerError: the pass took other ways than the one that the layer was found in; a data point's outputs
                come of several rows of the layer, or are scaled by what depends on the data.
        """
        node: Any = graph.root.node
        for name, place in self.path:
            if node.name() != name:
                raise NoLastLayerError(_changed(name, node))
            node = node.next_functions[place][0]
        product = PRODUCTS.get(self.kind)
        if node is None or node.name() != self.kind or product is None:
            raise NoLastLayerError(_changed(self.kind, node))
        saved = product.saved(node, self.place)
        assert saved is not None  # its weight needs a gradient
        rows = product.rows(saved.detach(), self.place)
        if not self.path:
            return rows, self.weight.T
        index, columns, scale = _selected(graph, node, product, self.place, outputs)
        return rows[index], scale[:, None] * self.weight.T[columns]


def find_head(anatomy: Anatomy, batch: Batch, outputs: Tensor) -> Head:
    """The last linear layer, from the graph of some data points' outputs [N, O] in which all parameters are.

    Raises:
        NoLastLayerError: there is none or there are several.
    """
    graph = Graph(outputs, anatomy.trainable.values())
    made = _made_of_parameters(anatomy, graph, Entries(graph, Ownership(graph, outputs, batch)))
    path: list[tuple[str, int]] = []
    node: Any = graph.root.node
    kind = type(anatomy.model).__name__
    while node.name() not in PRODUCTS:
        if node.name() not in MOVING | AFFINE:
            raise NoLastLayerError(_advice(f"the outputs of {kind} come of {_operation(node)}"))
        place = _onward(graph, node, made, outputs, kind)
        path.append((node.name(), place))
        node = node.next_functions[place][0]
    product = PRODUCTS[node.name()]
    weights = [place for place in product.places if (node, place) in made]
    if len(weights) != 1 or not product.is_matrix(node):
        why = "at several positions" if weights else "of which no factor is a parameter"
        raise NoLastLayerError(_advice(f"the outputs of {kind} come of {_operation(node)} {why}"))
    at = sum(product.places) - weights[0]
    uses = made[node, weights[0]]
    return Head(
        name=re.sub(r"(^|\.)(parametrizations\..*|[^.]*)$", "", next(iter(uses))),
        parameters=frozenset(id(anatomy.trainable[name]) for name in uses),
        path=tuple(path),
        kind=node.name(),
        place=at,
        weight=getattr(node, "_saved_alpha", 1) * _weight(node, product, weights[0], uses),
    )


Made = dict[tuple[Any, int], dict[str, Chain]]
"""By node and place, what it takes there that is made of parameters alone: of which, and how."""


def _made_of_parameters(anatomy: Anatomy, graph: Graph, entries: Entries) -> Made:
    made: Made = {}
    for name, parameter in anatomy.trainable.items():
        for entry, chain in (entries.of(parameter) or ()) if graph.users[id(parameter)] else ():
            made.setdefault((entry.node, entry.place), {})[name] = chain
    return made


def _onward(graph: Graph, node: Any, made: Made, outputs: Tensor, kind: str) -> int:
    """The one place at which the node takes what comes of the data and of parameters."""
    behind = [(place, edge) for place, edge in enumerate(node.next_functions) if edge[0] is not None]
    places = [(place, edge) for place, edge in behind if (node, place) not in made]
    if len(places) > 1:  # some of several that were joined may have been cut off again
        edges = [GradientEdge(*edge) for _, edge in places]
        seed = torch.rand(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs) + 0.5
        slopes = torch.autograd.grad([graph.root], edges, [seed], retain_graph=True, allow_unused=True)
        reached = [slope is not None and bool(slope.any()) for slope in slopes]
        places = list(itertools.compress(places, reached))
    if len(places) > 1:
        raise NoLastLayerError(
            f"the outputs of {kind} come of {len(places)} layers, joined by {_operation(node)}, expected one last "
            "linear layer: pick the outputs of one with output=, such as output=lambda outputs: outputs[:, :3]"
        )
    if not places:
        raise NoLastLayerError(_advice(f"the outputs of {kind} come of {_operation(node)}"))
    return places[0][0]


def _weight(node: Any, product: Product, place: int, uses: dict[str, Chain]) -> Tensor:
    """[p, K]; where the node has not kept it, the parameter itself tells."""
    values = product.saved(node, place)
    if values is None:
        chain = next(iter(uses.values()))
        shape, parameter = edge_shape(chain.source), chain.parameter
        if len(uses) > 1 or chain.form not in ("flat", "flipped"):
            raise NoLastLayerError(
                f"{', '.join(uses)} are multiplied by the inputs themselves, in a form that cannot be read, expected "
                "the weight of a linear layer: make the inputs go through a layer before"
            )
        values = parameter.reshape(shape) if chain.form == "flat" else parameter.transpose(-2, -1).reshape(shape)
    return product.weight(values.detach(), place).clone()


def _selected(graph: Graph, node: Any, product: Product, place: int, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the product [R, K], the row of each data point [N], the column of each output [O], and its scale [O]."""
    points, width = outputs.shape
    edge: Edge = (node, 0)

    def back(weights: Tensor) -> Tensor:  # [R, K]
        weights = weights.to(outputs).expand(points, width)
        (slopes,) = torch.autograd.grad([graph.root], [GradientEdge(*edge)], [weights], retain_graph=True)
        return product.results(slopes, place)

    slopes = back(torch.ones(1, 1))
    rows, columns = slopes.nonzero(as_tuple=True)
    point = _numbers(points, lambda digits: (back(digits[:, None]) / slopes)[rows, columns])
    output = _numbers(width, lambda digits: (back(digits[None]) / slopes)[rows, columns])
    index, column = rows.new_zeros(points), rows.new_zeros(width)
    index[point], column[output] = rows, columns
    scales = slopes[index][:, column]
    if len(rows) != outputs.numel() or not torch.equal(index[point], rows) or not torch.equal(column[output], columns):
        raise NoLastLayerError(
            f"a data point's outputs come of several rows of {_operation(node)}, expected one: pick one position with "
            "output=, such as output=lambda outputs: outputs[:, -1]"
        )
    if not bool(((scales - scales[0]).abs() <= 4 * torch.finfo(scales.dtype).eps * scales[0].abs()).all()):
        raise NoLastLayerError(
            "the outputs are scaled by what depends on the data point after the last linear layer, expected a fixed "
            "scale: pick outputs before that with output="
        )
    return index, column, scales[0]


def _numbers(count: int, digits_at: Callable[[Tensor], Tensor]) -> Tensor:
    """Which of ``count`` numbers stands at each of some places, of which ``digits_at`` gives one digit at a time."""
    numbers, value = torch.arange(count), 1
    decoded = digits_at(numbers % DIGIT).double().round()
    while (value := value * DIGIT) < count:
        decoded += value * digits_at(numbers // value % DIGIT).double().round()
    return decoded.long()


def _operation(node: Any) -> str:
    """A node by the name of its operation, as torch's functions have it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", re.sub(r"Backward\d*$", "", node.name())).lower()


def _advice(got: str) -> str:
    return (
        f"{got}, expected a linear layer (a product with a weight, up to a bias and a fixed scale): have the network "
        "return what that layer gives, such as logits, or pick it with output="
    )


def _changed(expected: str, node: Any) -> str:
    return (
        f"a forward pass of more data points ends by {'nothing' if node is None else _operation(node)}, one of two by "
        f"{expected.partition('Backward')[0].lower()}: expected one way for all data points, remove branches on values"
    )
