"""The per-sample gradient of a tensor that enters the batch's rows at a node of the graph, in a cheap form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tangentscope.probes.kernels.gradients.autograd_graph import ACCUMULATE, edge_dtype, edge_shape
from tangentscope.probes.kernels.gradients.factors import Dense, Factor
from tangentscope.probes.kernels.gradients.row_layouts import Grid, Layout


@dataclass(frozen=True)
class Use:
    """A node of the graph that takes parameters and gives rows of the N points.

    number, layout: of the output whose gradients are collected, and whose rows they are.
    shapes: by place, of what the node takes there that is made of parameters.
    """

    node: Any
    number: int
    layout: Layout
    shapes: dict[int, torch.Size]

    @property
    def shape(self) -> torch.Size:
        """Of the output."""
        return edge_shape((self.node, self.number))

    @property
    def is_complex(self) -> bool:
        """Whether the output is."""
        return edge_dtype((self.node, self.number)).is_complex

    def takes_complex(self, place: int) -> bool:
        """Whether what is taken there is complex, which parameters themselves are not."""
        edge = self.node.next_functions[place]
        return edge[0].name() != ACCUMULATE and edge_dtype(edge).is_complex

    def along(self, dim: int) -> Layout | None:
        """The layout, if rows run along that dimension; of a single point they run along any."""
        if self.layout.points == 1:
            return Grid(1, self.shape[dim], dim)
        return self.layout if self.layout.dim == dim else None

    def saved(self, name: str) -> Tensor:
        """What the node keeps for its backward pass, without its history.

        Raises:
            RuntimeError: it was written over since, so that torch has no gradient either.
        """
        saved: Tensor = getattr(self.node, f"_saved_{name}").detach()
        return saved if saved.layout == torch.strided else saved.to_dense()


class Jacobian(Protocol):
    """From gradients at a node's output to J_n [N, width], written to ``room`` of that shape where there is one."""

    def __call__(self, gradients: Tensor, room: Tensor | None = None) -> Tensor:
        """J_n [N, width]."""
        ...


@dataclass(frozen=True)
class Outer:
    """J_na = Σ_t B_nat ⊗ A_nt, of shape [G, d_o, d_i].

    inputs, outputs: d_i and d_o of each of the ``groups`` G; d_i counts the one that stands for a bias.
    rows: T.
    factor: A, computed when asked for.
    gradients: [as the node's output] → B [N, G, d_o, T].
    transposed: the parameter's own layout is [G, d_i, d_o].
    one_hot: A is; inputs is the vocabulary then.
    late: ``gradients`` asks the graph, which must still have what the forward pass saved.
    """

    groups: int
    inputs: int
    outputs: int
    rows: int
    factor: Callable[[], Factor]
    gradients: Callable[[Tensor], Tensor]
    transposed: bool = False
    one_hot: bool = False
    late: bool = False

    @property
    def form(self) -> tuple[object, ...]:
        """Parts of one form can be taken together by concatenating their rows."""
        return (self.groups, self.inputs, self.outputs, self.transposed, self.one_hot)

    @property
    def width(self) -> int:
        """Numbers in J_na."""
        return self.groups * self.inputs * self.outputs

    def jacobian(self, dtype: torch.dtype) -> Jacobian:
        """The function from gradients at the node's output to J_n."""
        factor = self.factor().to(dtype)

        def of(gradients: Tensor, room: Tensor | None = None) -> Tensor:
            A, B, turned = factor, self.gradients(gradients), self.transposed
            if turned and isinstance(A, Dense):  # what J's transpose is made of stands the other way round
                A, B, turned = Dense(B.mT), A.values.mT, False
            if room is not None and self.groups == 1 and not turned and A.fills(B.shape[-2]):
                A.jacobian(B[:, None], room)
                return room
            found = A.jacobian(B[:, None])[:, 0]
            found = (found.transpose(-1, -2) if turned else found).flatten(1)  # of [N, G, d_o, d_i]
            return found if room is None else room.copy_(found)

        return of


@dataclass(frozen=True)
class Direct:
    """J_na small enough to be written down: ``width`` numbers.

    prepare: gives the function from gradients at the node's output to J_n [N, width].
    late: it asks the node itself, which must still have what the forward pass saved.
    """

    width: int
    prepare: Callable[[torch.dtype], Callable[[Tensor], Tensor]]
    late: bool = False

    def jacobian(self, dtype: torch.dtype) -> Jacobian:
        """The function from gradients at the node's output to J_n."""
        make = self.prepare(dtype)

        def of(gradients: Tensor, room: Tensor | None = None) -> Tensor:
            found = make(gradients)
            return found if room is None else room.copy_(found)

        return of


Part = Outer | Direct


def joined(parts: list[Direct]) -> Direct:
    """Several of one node side by side."""

    def prepare(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        jacobians = [part.jacobian(dtype) for part in parts]
        return lambda gradients: torch.cat([jacobian(gradients) for jacobian in jacobians], 1)

    return Direct(sum(part.width for part in parts), prepare, any(part.late for part in parts))


def with_ones(rows: Tensor) -> Tensor:
    """[..., T, d_i] with a column of ones: the bias's share of J."""
    return torch.cat([rows, rows.new_ones((*rows.shape[:-1], 1))], -1)
