"""A block of kernels between two batches: one forward pass, one backward sweep, one path for each layer.

Layers go by the rules of ``gradients.rules``, all other parameters by per-sample Jacobians. The sweep passes from
the outputs towards the inputs; what it has collected of a layer is multiplied and let go before it goes on.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from tangentscope.probes.kernels.engine.block_side import Side, uses_by_edge
from tangentscope.probes.kernels.engine.costs import Blocks
from tangentscope.probes.kernels.engine.gradient_store import Decision, Store, add_share, decide, in_steps
from tangentscope.probes.kernels.engine.jacobian import Block, add_jacobian_kernel
from tangentscope.probes.kernels.engine.memory import WORKSPACE, WORKSPACE_LEAST, stores_budget
from tangentscope.probes.kernels.gradients.observation import Observation
from tangentscope.probes.kernels.gradients.parameter_groups import Share
from tangentscope.probes.kernels.treatment import OutputRows
from tangentscope.probes.network.batch import Batch
from tangentscope.probes.network.layers import Anatomy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A network whose kernel is wanted: what it is made of, its outputs as ``rows``, the kernel's dtype."""

    anatomy: Anatomy
    rows: OutputRows
    dtype: torch.dtype

    def blocks(self, draws: int, points: int, others: int, symmetric: bool) -> Blocks:
        """The sizes of a block of this network's kernel."""
        return Blocks(
            draws, points, others, self.rows.kept, self.rows.contracted, symmetric, itemsize=self.dtype.itemsize
        )


@dataclass
class Kernels:
    """The kernels that are wanted, [draws, n, R, m, R] each: one for every name that ``name_of`` gives an owner.

    part_of: of an owner, the part whose traces are wanted beside them, [draws, n] in float64; None for no traces.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    name_of: Callable[[str], str]
    part_of: Callable[[str], str] | None = None
    chosen: slice = field(default_factory=lambda: slice(None))
    by_name: dict[str, Tensor] = field(default_factory=dict)
    traces: dict[str, Tensor] = field(default_factory=dict)

    @contextmanager
    def adding(self, owner: str, rows: slice, columns: slice) -> Iterator[Tensor]:
        """A block of the kernel that the parameters of module ``owner`` are added to, inside."""
        kernel = self._of(owner)[self.chosen, rows, :, columns]
        if self.part_of is None or rows != columns:
            yield kernel
            return
        share = torch.zeros_like(kernel)
        yield share
        kernel += share
        diagonal = share.diagonal(dim1=1, dim2=3).diagonal(dim1=1, dim2=2)  # [draws, n, R]
        self._traces_of(owner, self.part_of)[self.chosen, rows] += diagonal.double().sum(2)

    def block(self, rows: slice, columns: slice) -> Block:
        """A block of the kernels of one draw."""

        def kernel_of(owner: str) -> Tensor:
            return self._of(owner)[self.chosen, rows, :, columns][0]

        def add_trace(owner: str, points: slice, values: Tensor) -> None:
            if self.part_of is not None and rows == columns:
                self._traces_of(owner, self.part_of)[self.chosen, rows][0, points] += values

        def group_of(owner: str) -> tuple[str, str]:
            return self.name_of(owner), self.part_of(owner) if self.part_of else ""

        return Block(kernel_of, add_trace, group_of)

    def of_all(self, parameters: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Kernels and traces in the order of the ``parameters``; zero where nothing was added."""
        owners = dict.fromkeys(name.rpartition(".")[0] for name in parameters)
        kernels = {self.name_of(owner): self._of(owner) for owner in owners}
        if self.part_of is None:
            return kernels, {}
        return kernels, {self.part_of(owner): self._traces_of(owner, self.part_of) for owner in owners}

    def part(self, draws: slice) -> "Kernels":
        """The same kernels, of which only some draws are added to."""
        return replace(self, chosen=draws)

    def _of(self, owner: str) -> Tensor:
        name = self.name_of(owner)
        if name not in self.by_name:
            self.by_name[name] = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        return self.by_name[name]

    def _traces_of(self, owner: str, part_of: Callable[[str], str]) -> Tensor:
        name = part_of(owner)
        if name not in self.traces:
            self.traces[name] = torch.zeros(self.shape[:2], dtype=torch.float64, device=self.device)
        return self.traces[name]


def add_block(
    network: Network,
    kernels: Kernels,
    place: tuple[slice, slice],
    left: Observation,
    right: Observation | None,
    index: Tensor | None,
    free: int,
) -> None:
    """Add the block between the points of ``left`` and ``right``, which end with it, to every kernel.

    place: points of the kernels' rows and columns. right: None for the upper triangle of one batch's kernel.
    index: [draws, n] for the kernels of draws out of ``left``. free: bytes that may be used on the way.
    """
    symmetric = right is None
    draws, n = (1, len(left.batch)) if index is None else index.shape
    shares = list(left.shares)
    others = shares
    if right is not None:
        twins = {share.signature: share for share in right.shares}
        common = _in_common(left.shares, right.shares)
        shares = [share for share in shares if common.issuperset(share.parameters)]
        others = [twins[share.signature] for share in shares]
    blocks = network.blocks(draws, n, n if right is None else len(right.batch), symmetric)
    # Points of different size: a path must do for the larger side.
    larger = [max(pair, key=lambda share: share.rows) for pair in zip(shares, others, strict=True)]
    decisions = decide_all(shares, larger, blocks, left, len(left.batch), stores_budget(free, symmetric))
    workspace = max(WORKSPACE_LEAST, min(WORKSPACE, free // 4))
    decisions = [
        in_steps(decision, share, blocks, workspace) for share, decision in zip(larger, decisions, strict=True)
    ]
    in_order = index is None or torch.equal(index.flatten(), torch.arange(index.numel(), device=index.device))
    drawn = None if in_order else index

    def complete() -> Iterator[tuple[int, list[Store]]]:
        """Sweep both sides in step; every share as soon as all its uses are there."""
        about = network.rows, network.dtype, workspace
        mine = Side(left, shares, decisions, *about)
        sides = [mine] if right is None else [mine, Side(right, others, decisions, *about)]
        if any(side.plan != mine.plan for side in sides):
            for side in sides:
                side.in_one_piece()
        for number in [number for number, share in enumerate(shares) if share.ends]:
            yield number, [side.stores.pop(number) for side in sides]
        last = {number: step for step, uses in enumerate(mine.plan) for number, _ in uses}
        for step, *_ in zip(*(side.sweep() for side in sides), strict=True):
            for number in [number for number, at in last.items() if at == step]:
                yield number, [side.stores.pop(number) for side in sides]

    if shares:
        for number, stores in complete():
            with kernels.adding(shares[number].owner, *place) as kernel:
                add_share(kernel, stores[0], stores[-1], drawn, symmetric, workspace)
            for store in stores:
                store.let_go()
            del stores  # before the sweep goes on
    remaining = remaining_parameters(network, shares, [left] if right is None else [left, right])
    if remaining:
        logger.info("no rule for %s: per-sample Jacobians", ", ".join(remaining))
        _add_jacobians(network, kernels, place, remaining, left.batch, right.batch if right else None, index, free)


def _in_common(left: Sequence[Share], right: Sequence[Share]) -> set[str]:
    """The parameters all of whose shares are alike on both sides: the network may have gone another way."""
    signatures: list[dict[str, set[tuple[object, ...]]]] = []
    for shares in (left, right):
        signatures.append(defaultdict(set))
        for share in shares:
            for name in share.parameters:
                signatures[-1][name].add(share.signature)
    return {name for name, found in signatures[0].items() if found == signatures[1].get(name)}


def decide_all(
    shares: Sequence[Share],
    larger: Sequence[Share],
    blocks: Blocks,
    observation: Observation,
    points: int,
    budget: int,
) -> list[Decision]:
    """The path of every share: the cheapest, or the one that collects least where a segment overruns the budget.

    larger: the same shares, on the side where they have more rows. points: on one side. budget: bytes that they may
    collect.
    """
    decisions = [decide(share, blocks, budget / points) for share in larger]
    uses = uses_by_edge(shares)
    for segment in observation.graph.segments(list(uses)) if uses else []:
        numbers = sorted({number for edge in segment.wanted for number, _ in uses[edge]})
        if points * sum(decisions[number].point_bytes for number in numbers) > budget:
            for number in numbers:
                decisions[number] = decide(larger[number], blocks, 0)
    return decisions


def remaining_parameters(
    network: Network, shares: Sequence[Share], sides: Sequence[Observation]
) -> dict[str, nn.Parameter]:
    """By name, the parameters that the outputs of all ``sides`` depend on and no share covers."""
    covered = {name for share in shares for name in share.parameters}
    return {
        name: parameter
        for name, parameter in network.anatomy.trainable.items()
        if parameter.numel() and name not in covered and all(side.graph.users[id(parameter)] for side in sides)
    }


def _add_jacobians(
    network: Network,
    kernels: Kernels,
    place: tuple[slice, slice],
    parameters: dict[str, nn.Parameter],
    inputs: Batch,
    others: Batch | None,
    index: Tensor | None,
    free: int,
) -> None:
    """All of them together: a network's pass costs the same for one as for many."""
    model, rows = network.anatomy.model, network.rows
    if index is None:
        add_jacobian_kernel(kernels.block(*place), model, parameters, inputs, others, rows, free)
        return
    first = kernels.chosen.start or 0
    for draw, chosen in enumerate(index):
        block = kernels.part(slice(first + draw, first + draw + 1)).block(*place)
        add_jacobian_kernel(block, model, parameters, inputs.take(chosen), None, rows, free)
