"""The inputs' side of a layer whose per-sample gradient is a sum of outer products, J_na = Σ_t B_nat ⊗ A_nt.

A is dense (the rows that a linear layer or a convolution's patches see) or one-hot (the tokens of an embedding).
Shapes: lead is [N] or, gathered for draws, [draws, n]; G groups of a convolution; d_i inputs and d_o outputs a group.
Of gradients [*lead, K, G, d_o, T], `jacobian` gives J [*lead, K, G, d_o, d_i]: in the flat `room` for it, or,
where K and G are 1, in that of each point, [N, width]; without one in any order in memory. `fills` tells whether that
of one function is as fast in such a room as anywhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

EVEN = 16
"""A product is faster with a multiple of so many columns: where not, as its transpose, by a fifth for nine."""

NARROW = 32
"""So many columns make up for that where they stand at their place at once, without a copy."""


@dataclass(frozen=True)
class Dense:
    """A as it is: ``values`` [*lead, G, T, d_i]."""

    values: Tensor

    @property
    def width(self) -> int:
        """d_i."""
        return self.values.shape[-1]

    def drawn(self, index: Tensor | None, draws: int, chunk: slice) -> "Dense":
        """Of the points of some draws."""
        return Dense(drawn(self.values, index, draws, chunk))

    def to(self, dtype: torch.dtype) -> "Dense":
        """In another precision."""
        return Dense(self.values.to(dtype))

    def row_by_row(self) -> "Dense":
        """With the numbers of a row beside one another, as windows of convolutions have not, for many grams."""
        return Dense(self.values.contiguous())

    def gram(self, points: slice, other: "Factor", others: slice) -> Float[Tensor, "draws n T m S"]:
        """Inner products of rows."""
        assert isinstance(other, Dense)
        left, right = self.values[:, points, 0], other.values[:, others, 0]  # [draws, n, T, d_i]
        gram = left.flatten(1, 2) @ right.flatten(1, 2).transpose(1, 2)
        return gram.view(len(left), *left.shape[1:3], *right.shape[1:3])

    def fills(self, outputs: int) -> bool:
        """With so many outputs, not as the transpose of few columns."""
        return self.width >= NARROW or not _is_transpose(outputs, self.width)

    def jacobian(self, gradients: Tensor, room: Tensor | None = None) -> Tensor:
        """A product of matrices for each point and group."""
        *lead, K, G, d_o, T = gradients.shape
        d_i, products = self.values.shape[-1], math.prod(lead) * G
        left = gradients.transpose(-4, -3).reshape(products, K * d_o, T)
        right = self.values.reshape(products, T, d_i)
        if room is not None:
            found = torch.bmm(left, right, out=room.view(products, K * d_o, d_i))
        elif _is_transpose(d_o, d_i):
            found = torch.bmm(right.transpose(1, 2), left.transpose(1, 2)).transpose(1, 2)
        else:
            found = torch.bmm(left, right)
        return found.view(*lead, G, K, d_o, d_i).transpose(-4, -3)


@dataclass(frozen=True)
class Tokens:
    """A one-hot: ``ids`` [*lead, T] below ``vocabulary``."""

    ids: Int[Tensor, "*lead T"]
    vocabulary: int

    @property
    def width(self) -> int:
        """The vocabulary."""
        return self.vocabulary

    def drawn(self, index: Tensor | None, draws: int, chunk: slice) -> "Tokens":
        """Of the points of some draws."""
        return Tokens(drawn(self.ids, index, draws, chunk), self.vocabulary)

    def to(self, dtype: torch.dtype) -> "Tokens":
        """The same: there is nothing to round."""
        return self

    def row_by_row(self) -> "Tokens":
        """The same."""
        return self

    def gram(self, points: slice, other: "Factor", others: slice) -> Float[Tensor, "draws n T m S"]:
        """1 where tokens are equal."""
        assert isinstance(other, Tokens)
        equal = self.ids[:, points, :, None, None] == other.ids[:, None, None, others]
        return equal.to(torch.get_default_dtype())

    def fills(self, outputs: int) -> bool:
        """It is summed up at its place."""
        return True

    def jacobian(self, gradients: Tensor, room: Tensor | None = None) -> Tensor:
        """Sums over the positions of each token."""
        *lead, K, G, d_o, T = gradients.shape
        index = self.ids[..., None, None, None, :].expand(*lead, K, G, d_o, T)
        whole = (*lead, K, G, d_o, self.vocabulary)
        found = gradients.new_zeros(whole) if room is None else room.zero_().view(whole)
        return found.scatter_add_(-1, index, gradients)


def _is_transpose(outputs: int, inputs: int) -> bool:
    """Whether J is faster as the transpose of a product."""
    return bool(inputs % EVEN) and not outputs % EVEN


Factor = Dense | Tokens
"""Rows A of a layer's inputs."""


def drawn(values: Tensor, index: Tensor | None, draws: int, chunk: slice) -> Tensor:
    """[draws, n, ...] of some of the draws, whose points are at ``index`` or, where it is None, one after another."""
    return values.unflatten(0, (draws, -1))[chunk] if index is None else values[index[chunk]]


def concatenated(factors: Sequence[Factor]) -> Factor:
    """Several uses of one weight: their rows after one another give the exact cross terms."""
    first = factors[0]
    if len(factors) == 1:
        return first
    if isinstance(first, Tokens):
        ids = [factor.ids for factor in factors if isinstance(factor, Tokens)]
        return Tokens(torch.cat(ids, -1), first.vocabulary)
    return Dense(torch.cat([factor.values for factor in factors if isinstance(factor, Dense)], -2))


def compressed(left: Factor, right: Factor) -> tuple[Factor, Factor]:
    """Token factors with the vocabulary cut to the tokens that occur; dense ones as they are."""
    if not isinstance(left, Tokens) or not isinstance(right, Tokens):
        return left, right
    occurring, renamed = torch.unique(torch.cat([left.ids.flatten(), right.ids.flatten()]), return_inverse=True)
    count = left.ids.numel()
    return (
        Tokens(renamed[:count].view(left.ids.shape), len(occurring)),
        Tokens(renamed[count:].view(right.ids.shape), len(occurring)),
    )
