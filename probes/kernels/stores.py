"""Per-sample gradients of one share, collected function by function as the backward sweep delivers them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probes.kernels.contract import (
    ROWS_APART,
    add_dense,
    add_ending,
    add_ghost,
    add_half,
    add_half_apart,
    add_jacobians,
    add_outer_jacobians,
)
from probes.kernels.costs import MULTIPLY_ADDS_PER_BYTE, Blocks, Cost, direct_cost, ending_cost, outer_costs
from probes.kernels.factors import Factor, compressed, concatenated, drawn
from probes.kernels.parts import Outer
from probes.kernels.shares import Share
from probes.kernels.spare import Spare


@dataclass(frozen=True)
class Decision:
    """How a share enters the kernel: by which path, and whether J is written down as gradients come.

    point_bytes: what is collected for one point, the layer's inputs among it.
    passed_bytes: what collecting it reads and writes for one point.
    apart: pairs of points are multiplied one by one.
    """

    cost: Cost
    written: bool
    point_bytes: int
    passed_bytes: int = 0
    apart: bool = False


def share_costs(share: Share, blocks: Blocks) -> list[Cost]:
    """What the paths of a share cost."""
    if (parts := share.outer) is None:
        return [direct_cost(blocks, share.uses[0][1].width)]
    first, rows = parts[0], share.rows
    inputs = min(first.inputs, blocks.points * rows) if first.one_hot else first.inputs
    if share.ends:
        return [ending_cost(blocks, inputs, first.outputs)]
    return outer_costs(blocks, first.groups, inputs, first.outputs, rows)


def decide(share: Share, blocks: Blocks, budget: int | float = math.inf) -> Decision:
    """The cheapest way that collects at most ``budget`` bytes for a point; the smallest one if none does."""
    K, size = blocks.functions, blocks.itemsize
    width = share.uses[0][1].width
    costs = share_costs(share, blocks)
    if (parts := share.outer) is None:
        return Decision(costs[0], True, size * K * width)
    first, rows = parts[0], share.rows
    factor = size * rows * (1 if first.one_hot else first.groups * first.inputs)
    if share.ends:
        return Decision(costs[0], False, size * first.outputs + factor)
    kept = size * K * first.groups * first.outputs * rows
    many = blocks.draws == 1 and blocks.kept >= ROWS_APART
    options = [
        Decision(cost, False, kept + factor, 2 * kept + factor, apart=many and cost.path == "half") for cost in costs
    ]
    # Written down function by function, each of them reads the inputs again.
    written = size * K * width + factor, K * factor
    options += [Decision(cost, True, *written) for cost in costs if cost.path == "jacobian"]

    def weight(option: Decision) -> int:
        return option.cost.weight + MULTIPLY_ADDS_PER_BYTE * blocks.points * option.passed_bytes

    fitting = [option for option in options if option.point_bytes <= budget]
    if not fitting:
        return min(options, key=lambda option: (option.point_bytes, weight(option)))
    return min(fitting, key=lambda option: (weight(option), option.point_bytes))


@dataclass
class Store:
    """What one side has collected of a share: J [N, K, width] if it is ``written``, else B [N, K, G, d_o, T].

    Of the share that ends the network it is what is not zero of B, [N, O]. ``apart``, see ``Decision``: B is kept as
    its rows come, since pairs of points can be multiplied in either order.
    """

    share: Share
    written: bool
    apart: bool
    points: int
    functions: int
    dtype: torch.dtype
    spare: Spare
    gradients: Tensor | None = None
    _block: Tensor | None = None
    _collected: set[tuple[int, int]] = field(default_factory=set)  # uses (0 for J, their sum) and functions
    _jacobians: dict[int, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def collect(self, use: int, k: int, gradient: Tensor) -> None:
        """Take function k's gradients at the outputs of one use of the share."""
        _, part = self.share.uses[use]
        gradient = gradient.to(self.dtype)
        if self.written:
            if use not in self._jacobians:
                self._jacobians[use] = part.jacobian(self.dtype)
            held, found = self._allocated(gradient, part.width)[:, k], self._jacobians[use](gradient)
            if (0, k) in self._collected:
                held += found
            else:
                held.copy_(found)
            self._collected.add((0, k))
            return
        assert isinstance(part, Outer)
        found = part.gradients(gradient)  # [N, G, d_o, rows of this use]
        if self.apart and found.stride(2) < found.stride(3):
            held = self._allocated(gradient, part.groups, self.share.rows, part.outputs, swapped=True)
        else:
            held = self._allocated(gradient, part.groups, part.outputs, self.share.rows)
        held[:, k, :, :, self.share.places[use]] = found
        self._collected.add((use, k))

    def end(self, gradients: Tensor) -> None:
        """Take the gradients [N, O] of all outputs, each at its own place, of the share that ends the network."""
        ((_, part),) = self.share.uses
        assert isinstance(part, Outer)
        self.gradients = part.gradients(gradients.to(self.dtype))[:, 0, :, 0]

    def complete(self) -> Tensor | None:
        """What was collected, zero where functions do not depend on the share; None where none does."""
        if self.gradients is None or not self.gradients.numel():
            return None
        if self.share.ends:
            return self.gradients
        for use in range(1 if self.written else len(self.share.uses)):
            rows = slice(None) if self.written else self.share.places[use]
            for k in range(self.functions):
                if (use, k) not in self._collected:
                    self.gradients[:, k, ..., rows] = 0
        return self.gradients

    def factor(self) -> Factor:
        """The inputs' side of what was not written down."""
        return concatenated([part.factor().to(self.dtype) for part in self.share.outer or []])

    def _allocated(self, gradient: Tensor, *shape: int, swapped: bool = False) -> Tensor:
        """Room for all functions; ``swapped``: its last two dimensions lie the other way in memory."""
        if self.gradients is None:
            whole = (self.points, self.functions, *shape)
            self._block = self.spare.take(math.prod(whole), gradient)
            held = self._block[: math.prod(whole)].view(whole)
            self.gradients = held.transpose(-1, -2) if swapped else held
        return self.gradients

    def let_go(self) -> None:
        """Of what was collected; its room is free for others."""
        if self._block is not None:
            self.spare.give(self._block)
        self.gradients = self._block = None


def add_share(
    kernel: Tensor, left: Store, right: Store, decision: Decision, index: Tensor | None, symmetric: bool, workspace: int
) -> None:
    """Add a share to ``kernel`` [draws, n, R, m, R] from what both sides collected; the same store if ``symmetric``.

    index: [draws, n] into the store's points; None where they are the draws' points one after another.
    workspace: bytes that may be used on the way; at least one draw, one point or one output is taken at a time.
    """
    mine = left.complete()
    theirs = mine if symmetric else right.complete()
    if mine is None or theirs is None:
        return
    factors = None
    if not left.written:
        factor = left.factor()
        factors = compressed(factor, factor if symmetric else right.factor())
    draws = len(kernel)
    point_bytes = decision.point_bytes if left.share.ends else (2 if left.written else 3) * mine[0].nbytes
    together = max(1, workspace // (kernel.shape[1] * point_bytes))
    for start in range(0, draws, together):
        chunk = slice(start, start + together)
        b_left = drawn(mine, index, draws, chunk)
        b_right = b_left if symmetric else theirs[None]
        if factors is None:
            add_jacobians(kernel[chunk], b_left, b_right, symmetric)
            continue
        a_left = factors[0].drawn(index, draws, chunk)
        a_right = a_left if symmetric else factors[1].drawn(None, 1, slice(1))
        _add_outer(kernel[chunk], (a_left, a_right), (b_left, b_right), decision, symmetric, workspace)


def _add_outer(
    kernel: Tensor,
    A: tuple[Factor, Factor],
    B: tuple[Tensor, Tensor],
    decision: Decision,
    symmetric: bool,
    workspace: int,
) -> None:
    if decision.cost.path == "outputs":
        add_ending(kernel, A, B, symmetric)
        return
    draws, points, kept, others = kernel.shape[:4]
    K, G, d_o, T = B[1].shape[2:]
    if decision.cost.path in ("ghost", "half"):
        left = A[0].row_by_row()
        A = left, left if A[1] is A[0] else A[1].row_by_row()
    if decision.cost.path == "dense":
        add_dense(kernel, A, (B[0].flatten(3), B[1].flatten(3)), symmetric)
    elif decision.cost.path == "ghost":
        each = 2 * draws * (kept * T) ** 2 * kernel.itemsize
        add_ghost(kernel, A, B, symmetric, chunk=max(1, workspace // each))
    elif decision.cost.path == "half":
        each = 2 * draws * K * d_o * T * kernel.itemsize
        (add_half_apart if decision.apart else add_half)(kernel, A, B, symmetric, chunk=max(1, workspace // each))
    else:
        each = draws * (points + (0 if symmetric else others)) * K * G * A[0].width * kernel.itemsize
        add_outer_jacobians(kernel, A, B, symmetric, chunk=max(1, workspace // each))
