"""What a rule makes of one call of a layer: the per-sample gradient of its parameters in a cheap form."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probes.kernels.factors import Factor
from probes.kernels.layouts import Layout


@dataclass(frozen=True)
class Call:
    """One call of a layer, with the layout that says which rows belong to which of the N points."""

    module: nn.Module
    inputs: Tensor
    outputs_shape: tuple[int, ...]
    layout: Layout

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of one point's inputs, [each, ...]: ``arranged()`` without N."""
        shape = list(self.inputs.shape)
        del shape[self.layout.dim]
        return (self.layout.each, *shape)

    def arranged(self) -> Tensor:
        """The inputs as [N, each, ...]."""
        return self.layout.arrange(self.inputs)


@dataclass(frozen=True)
class Outer:
    """J_na = Σ_t B_nat ⊗ A_nt, of shape [G, d_o, d_i].

    inputs, outputs: d_i and d_o of each of the ``groups`` G; d_i counts the one that stands for a bias.
    rows: T.
    factor: A, computed when asked for.
    gradients: [as the layer's outputs] → B [N, G, d_o, T].
    transposed: the parameter's own layout is [d_i, d_o].
    one_hot: A is; inputs is the vocabulary then.
    """

    groups: int
    inputs: int
    outputs: int
    rows: int
    factor: Callable[[], Factor]
    gradients: Callable[[Tensor], Tensor]
    transposed: bool = False
    one_hot: bool = False

    @property
    def form(self) -> tuple[object, ...]:
        """Parts of one form can be taken together by concatenating their rows."""
        return (self.groups, self.inputs, self.outputs, self.transposed, self.one_hot)

    @property
    def width(self) -> int:
        """Numbers in J_na."""
        return self.groups * self.inputs * self.outputs

    def jacobian(self, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """The function from gradients at the layer's outputs to J_n [N, width]."""
        factor = self.factor().to(dtype)

        def of(gradients: Tensor) -> Tensor:
            found = factor.jacobian(self.gradients(gradients)[:, None])[:, 0]
            return (found.transpose(-1, -2) if self.transposed else found).flatten(1)  # of [N, G, d_o, d_i]

        return of


@dataclass(frozen=True)
class Direct:
    """J_na small enough to be written down: ``width`` numbers.

    prepare: gives the function from gradients at the layer's outputs to J_n [N, width].
    """

    width: int
    prepare: Callable[[], Callable[[Tensor], Tensor]]

    def jacobian(self, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """The function from gradients at the layer's outputs, of that ``dtype``, to J_n [N, width]."""
        return self.prepare()


Part = Outer | Direct


def with_ones(rows: Tensor) -> Tensor:
    """[..., T, d_i] with a column of ones: the bias's share of J."""
    return torch.cat([rows, rows.new_ones((*rows.shape[:-1], 1))], -1)
