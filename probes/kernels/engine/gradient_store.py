"""Per-sample gradients of one share, collected function by function as the backward sweep delivers them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tangentscope.probes.kernels.engine.buffer_pool import Spare
from tangentscope.probes.kernels.engine.contractions import (
    ROWS_APART,
    add_dense,
    add_ending,
    add_ghost,
    add_half,
    add_half_apart,
    add_jacobians,
    add_outer_jacobians,
)
from tangentscope.probes.kernels.engine.costs import (
    MULTIPLY_ADDS_PER_BYTE,
    Blocks,
    Cost,
    direct_cost,
    ending_cost,
    outer_costs,
)
from tangentscope.probes.kernels.gradients.factors import Factor, compressed, concatenated, drawn
from tangentscope.probes.kernels.gradients.parameter_groups import Share
from tangentscope.probes.kernels.gradients.per_sample import Jacobian, Outer


@dataclass(frozen=True)
class Decision:
    """How a share enters the kernel: by which path, and whether J is written down as gradients come.

    point_bytes: what is collected for one point, the layer's inputs among it.
    passed_bytes: what collecting it reads and writes for one point.
    apart: pairs of points are multiplied one by one.
    draws, outputs: so many, of each group of the layer, are multiplied together.
    """

    cost: Cost
    written: bool
    point_bytes: int
    passed_bytes: int = 0
    apart: bool = False
    draws: int = 1
    outputs: int = 1


def share_costs(share: Share, blocks: Blocks) -> list[Cost]:
    """What the paths of a share cost."""
    if (parts := share.outer) is None:
        return [direct_cost(blocks, share.uses[0][1].width)]
    first, rows = parts[0], share.rows
    inputs = inputs_at_most(first, blocks.points * rows)
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
    # Written down function by function, each of them reads the inputs again, and every use but the first adds to J.
    written = size * K * width + factor, K * factor + 2 * (len(parts) - 1) * size * K * width
    options += [Decision(cost, True, *written) for cost in costs if cost.path == "jacobian"]

    def weight(option: Decision) -> int:
        return option.cost.weight + MULTIPLY_ADDS_PER_BYTE * blocks.points * option.passed_bytes

    fitting = [option for option in options if option.point_bytes <= budget]
    if not fitting:
        return min(options, key=lambda option: (option.point_bytes, weight(option)))
    return min(fitting, key=lambda option: (weight(option), option.point_bytes))


def in_steps(decision: Decision, share: Share, blocks: Blocks, workspace: int) -> Decision:
    """The same in steps for which ``workspace`` bytes do: at least one draw and one output are taken at a time.

    J of some outputs is written where that of the last ones was, so their numbers are as equal as can be.
    """
    K, size, parts = blocks.functions, blocks.itemsize, share.outer
    if share.ends:
        point_bytes = decision.point_bytes
    elif parts is None or decision.written:
        point_bytes = 2 * size * K * share.uses[0][1].width
    else:
        point_bytes = 3 * size * K * parts[0].groups * parts[0].outputs * share.rows
    draws = min(blocks.draws, max(1, workspace // max(1, blocks.points * point_bytes)))  # points may have no rows
    outputs = max(1, parts[0].outputs) if parts else 1
    if parts and decision.cost.path == "jacobian":
        width = parts[0].groups * inputs_at_most(parts[0], blocks.points * share.rows)
        together = workspace // max(1, blocks.gradients // blocks.draws * draws * width * size)
        outputs = math.ceil(outputs / math.ceil(outputs / max(1, together)))
    return replace(decision, draws=draws, outputs=outputs)


def inputs_at_most(part: Outer, rows: int) -> int:
    """d_i; of a one-hot in so many rows no more than can occur."""
    return min(part.inputs, rows) if part.one_hot else part.inputs


@dataclass
class Store:
    """What one side has collected of a share: J [N, K, width] if it is written, else B [N, K, G, d_o, T].

    B lies in ``parts`` of some d_o, J in one. Of the share that ends the network it is what is not zero of B, [N, O].
    Where pairs of points are multiplied apart, B is kept as its rows come, since these can have either order.
    """

    share: Share
    decision: Decision
    points: int
    functions: int
    dtype: torch.dtype
    spare: Spare
    parts: list[Tensor] = field(default_factory=list)
    _blocks: list[Tensor] = field(default_factory=list)
    _collected: set[tuple[int, int]] = field(default_factory=set)  # uses (0 for J, their sum) and functions
    _jacobians: dict[int, Jacobian] = field(default_factory=dict)

    def collect(self, use: int, k: int, gradient: Tensor) -> None:
        """Take function k's gradients at the outputs of one use of the share."""
        _, part = self.share.uses[use]
        gradient = gradient if gradient.is_complex() else gradient.to(self.dtype)
        if self.decision.written:
            if use not in self._jacobians:
                self._jacobians[use] = part.jacobian(self.dtype)
            if not self.parts:
                self._allocate(gradient, part.width)
            held = self.parts[0][:, k]
            if (0, k) in self._collected:
                held += self._jacobians[use](gradient)
            else:
                self._jacobians[use](gradient, held)
            self._collected.add((0, k))
            return
        assert isinstance(part, Outer)
        found = part.gradients(gradient)  # [N, G, d_o, rows of this use]
        if not self.parts:
            self._make_room(found)
        each = found.split(self.decision.outputs, 2) if len(self.parts) > 1 else [found]
        for held, outputs in zip(self.parts, each, strict=True):
            held[:, k, :, :, self.share.places[use]] = outputs
        self._collected.add((use, k))

    def end(self, gradients: Tensor) -> None:
        """Take the gradients [N, O] of all outputs, each at its own place, of the share that ends the network."""
        ((_, part),) = self.share.uses
        assert isinstance(part, Outer)
        self.parts = [part.gradients(gradients.to(self.dtype))[:, 0, :, 0]]

    def complete(self) -> Sequence[Tensor]:
        """What was collected, zero where functions do not depend on the share; nothing where none does."""
        if not self.share.ends:
            for use in range(1 if self.decision.written else len(self.share.uses)):
                rows = slice(None) if self.decision.written else self.share.places[use]
                for k in range(self.functions):
                    if (use, k) not in self._collected:
                        for part in self.parts:
                            part[:, k, ..., rows] = 0
        return [part for part in self.parts if part.numel()]

    def factor(self) -> Factor:
        """The inputs' side of what was not written down."""
        return concatenated([part.factor().to(self.dtype) for part in self.share.outer or []])

    def _make_room(self, gradients: Tensor) -> None:
        """For all functions' gradients and all uses' rows, laid out as the first ones are if that matters."""
        T = self.share.rows
        for found in gradients.split(self.decision.outputs, 2):
            _, G, d_o, _ = found.shape
            if self.decision.apart and found.stride(2) < found.stride(3):
                self._allocate(found, G, T, d_o)
                self.parts[-1] = self.parts[-1].transpose(-1, -2)
            else:
                self._allocate(found, G, d_o, T)

    def _allocate(self, gradient: Tensor, *shape: int) -> None:
        whole = (self.points, self.functions, *shape)
        block = self.spare.take(math.prod(whole), gradient)
        self._blocks.append(block)
        self.parts.append(block[: math.prod(whole)].view(whole))

    def let_go(self) -> None:
        """Of what was collected; its room is free for others."""
        self.parts = []
        while self._blocks:
            self.spare.give(self._blocks.pop())


def add_share(kernel: Tensor, left: Store, right: Store, index: Tensor | None, symmetric: bool, workspace: int) -> None:
    """Add a share to ``kernel`` [draws, n, R, m, R] from what both sides collected; the same store if ``symmetric``.

    index: [draws, n] into the store's points; None where they are the draws' points one after another.
    workspace: bytes that may be used on the way; at least one draw and one point are taken at a time.
    """
    mine = left.complete()
    theirs = mine if symmetric else right.complete()
    if not mine or not theirs:
        return
    decision, factors = left.decision, None
    if not decision.written:
        factor = left.factor()
        factors = compressed(factor, factor if symmetric else right.factor())
    draws = len(kernel)
    for start in range(0, draws, decision.draws):
        chunk = slice(start, start + decision.draws)
        b_left = [drawn(part, index, draws, chunk) for part in mine]
        b_right = b_left if symmetric else [part[None] for part in theirs]
        if factors is None:
            add_jacobians(kernel[chunk], b_left[0], b_right[0], symmetric)
            continue
        a_left = factors[0].drawn(index, draws, chunk)
        a_right = a_left if symmetric else factors[1].drawn(None, 1, slice(1))
        _add_outer(kernel[chunk], (a_left, a_right), (b_left, b_right), decision, symmetric, workspace)


def _add_outer(
    kernel: Tensor,
    A: tuple[Factor, Factor],
    parts: tuple[Sequence[Tensor], Sequence[Tensor]],
    decision: Decision,
    symmetric: bool,
    workspace: int,
) -> None:
    path, B = decision.cost.path, (parts[0][0], parts[1][0])
    if path == "jacobian":
        add_outer_jacobians(kernel, A, parts, symmetric)
        return
    if path == "outputs":
        add_ending(kernel, A, B, symmetric)
        return
    draws, _, kept, _ = kernel.shape[:4]
    K, _, d_o, T = B[1].shape[2:]
    if path in ("ghost", "half"):
        left = A[0].row_by_row()
        A = left, left if A[1] is A[0] else A[1].row_by_row()
    if path == "dense":
        add_dense(kernel, A, (B[0].flatten(3), B[1].flatten(3)), symmetric)
    elif path == "ghost":
        each = 2 * draws * (kept * T) ** 2 * kernel.itemsize
        add_ghost(kernel, A, B, symmetric, chunk=max(1, workspace // each))
    else:
        each = 2 * draws * K * d_o * T * kernel.itemsize
        (add_half_apart if decision.apart else add_half)(kernel, A, B, symmetric, chunk=max(1, workspace // each))
