"""What a kernel will cost, layer by layer, before it is computed."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tangentscope.probes.kernels.computation import Run, begin
from tangentscope.probes.kernels.engine.block import Network, decide_all, remaining_parameters
from tangentscope.probes.kernels.engine.block_side import uses_by_edge
from tangentscope.probes.kernels.engine.costs import Blocks
from tangentscope.probes.kernels.engine.gradient_store import Decision, share_costs
from tangentscope.probes.kernels.engine.memory import WORKSPACE, stores_budget
from tangentscope.probes.kernels.gradients.observation import Observation
from tangentscope.probes.kernels.gradients.parameter_groups import Share
from tangentscope.probes.kernels.treatment import OutputTreatment
from tangentscope.probes.network.checks import Chosen
from tangentscope.probes.network.function import Function
from tangentscope.probes.network.output import Output

PER_SAMPLE = "per-sample jacobian"


@dataclass(frozen=True)
class LayerPlan:
    """How the parameters of one layer enter the kernel.

    name, kind: the module that has them and its type. parameters: how many numbers they are. uses: in one forward
    pass. rows, inputs, outputs: T, d_i (with the one of a bias) and d_o of its outer products, 0 where its gradients
    are written down directly. path: ``outputs`` (the layer that gives them), ``dense`` (T = 1), ``ghost``, ``half``,
    ``jacobian`` or, where no rule covers it, ``per-sample jacobian``. multiply_adds: of its products, without forward
    and backward passes; without a rule also its part of the passes that such layers need beside. bytes: that its
    gradients take until they are multiplied.
    """

    name: str
    kind: str
    parameters: int
    uses: int
    rows: int
    inputs: int
    outputs: int
    path: str
    multiply_adds: int
    bytes: int


@dataclass(frozen=True)
class KernelPlan:
    """The cost of one kernel.

    layers: in the order of the network. passes: multiply-adds of the forward and the backward passes. kernel_bytes:
    of the result. bytes: an estimate of the most that is held at a time, the result among it. blocks: how many
    pairs of tiles of points it takes to stay below the ceiling; more than one repeat passes.
    """

    layers: tuple[LayerPlan, ...]
    passes: int
    kernel_bytes: int
    bytes: int
    blocks: int

    @property
    def multiply_adds(self) -> int:
        """Of everything."""
        return self.passes + sum(layer.multiply_adds for layer in self.layers)

    @property
    def fallback_share(self) -> float:
        """The part of all multiply-adds that layers without a rule take, passes of their own among them; 0 … 1."""
        without_rule = sum(layer.multiply_adds for layer in self.layers if layer.path == PER_SAMPLE)
        return without_rule / self.multiply_adds if without_rule else 0.0

    def __str__(self) -> str:
        header = ("layer", "type", "path", "uses", "rows", "inputs", "outputs", "multiply-adds", "bytes")
        lines: list[tuple[str, ...]] = [header]
        for layer in self.layers:
            sizes = [str(size) if size else "" for size in (layer.rows, layer.inputs, layer.outputs)]
            costs = [short(layer.multiply_adds), short(layer.bytes)]
            lines.append((layer.name or "(network)", layer.kind, layer.path, str(layer.uses), *sizes, *costs))
        lines.append(("passes", "", "", "", "", "", "", short(self.passes), ""))
        total = f"in {self.blocks} blocks" if self.blocks > 1 else ""
        lines.append(("all", "", total, "", "", "", "", short(self.multiply_adds), short(self.bytes)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                [
                    cell.ljust(w) if i < 3 else cell.rjust(w)
                    for i, (cell, w) in enumerate(zip(line, widths, strict=True))
                ]
            )
            for line in lines
        )


def kernel_plan(
    model: nn.Module,
    inputs: Any,
    outputs: OutputTreatment = "full",
    *,
    others: Any = None,
    output: Output = None,
    parameters: Chosen = None,
    memory_bytes: int | None = None,
) -> KernelPlan:
    """How ``tangent_kernel`` would compute the same: the path of every layer, multiply-adds and bytes.

    Looks at a few points, of graphs at the largest, and computes no kernel. Same arguments and errors.
    """
    function = Function(model, output, parameters)
    with begin(function, inputs, others, outputs, memory_bytes, lambda owner: "") as run:
        return _plan(run)


def _plan(run: Run) -> KernelPlan:
    network, R = run.network, run.network.rows.kept
    N, symmetric = len(run.left), run.right is None
    M = N if run.right is None else len(run.right)
    free = run.free(N * M * R**2)
    each = run.points_at_once(free, N)
    whole = symmetric and each == N
    block = network.blocks(1, each, min(each, M), whole)
    shares = run.sketch.shares
    decisions = decide_all(shares, shares, block, run.sketch, each, stores_budget(free, whole))
    everything = network.blocks(1, N, M, symmetric)
    sides = N if symmetric else N + M
    layers = [
        _by_rule(network, share, decision, everything, sides)
        for share, decision in zip(run.sketch.shares, decisions, strict=True)
    ]
    forward, backward = _passes(run)
    layers += _by_jacobians(network, run.sketch, everything, sides, forward * sides)
    order = {name: number for number, name in enumerate(network.anatomy.kinds)}
    kernel_bytes = N * M * R**2 * network.dtype.itemsize
    held = run.room.passing + max((decision.point_bytes for decision in decisions), default=0)
    across, down = math.ceil(M / each), math.ceil(N / each)
    return KernelPlan(
        layers=tuple(sorted(layers, key=lambda layer: order[layer.name])),
        passes=sides * (forward + backward),
        kernel_bytes=kernel_bytes,
        bytes=kernel_bytes + each * (1 if whole else 2) * held + min(WORKSPACE, free // 4),
        blocks=down * (down + 1) // 2 if symmetric else down * across,
    )


def _by_rule(network: Network, share: Share, decision: Decision, blocks: Blocks, sides: int) -> LayerPlan:
    parts = share.outer or []
    return LayerPlan(
        name=share.owner,
        kind=share.kind,
        parameters=share.numbers,
        uses=len(share.uses),
        rows=sum(part.rows for part in parts),
        inputs=parts[0].inputs if parts else 0,
        outputs=parts[0].outputs if parts else 0,
        path=decision.cost.path,
        multiply_adds=next(c for c in share_costs(share, blocks) if c.path == decision.cost.path).multiply_adds,
        bytes=sides * decision.point_bytes,
    )


def _by_jacobians(network: Network, sketch: Observation, blocks: Blocks, sides: int, forward: int) -> list[LayerPlan]:
    """forward: multiply-adds of a forward pass of all points; a backward pass to all parameters takes twice as many."""
    by_owner: dict[str, dict[str, nn.Parameter]] = defaultdict(dict)
    remaining = remaining_parameters(network, sketch.shares, [sketch])
    for name, parameter in remaining.items():
        by_owner[name.rpartition(".")[0]][name] = parameter
    passes = forward * (1 + 2 * blocks.functions)  # of all of them together
    numbers = sum(parameter.numel() for parameter in remaining.values())
    layers = []
    for owner, parameters in by_owner.items():
        count = sum(parameter.numel() for parameter in parameters.values())
        layers.append(
            LayerPlan(
                name=owner,
                kind=network.anatomy.kinds[owner],
                parameters=count,
                uses=sum(len(sketch.graph.users[id(parameter)]) for parameter in parameters.values()),
                rows=0,
                inputs=0,
                outputs=0,
                path=PER_SAMPLE,
                multiply_adds=blocks.products * count + passes * count // numbers,
                bytes=sides * blocks.functions * count * blocks.itemsize,
            )
        )
    return layers


def _passes(run: Run) -> tuple[int, int]:
    """Multiply-adds for each point: of a forward pass, and of a backward pass to the layers for each function."""
    sketch, functions = run.sketch, run.network.rows.functions
    points = len(sketch.batch)
    with _Flops() as forward:
        sketch.batch.run(run.network.anatomy.model)
    edges = list(uses_by_edge(sketch.shares))
    head = sketch.graph.head(edges)
    entered = GradientEdge(*head.rows) if head else sketch.graph.root
    seed = sketch.outputs.new_ones(len(sketch.outputs), len(head.matrix)) if head else torch.ones_like(sketch.outputs)
    with _Flops() as backward:
        if edges:
            torch.autograd.grad([entered], [GradientEdge(*edge) for edge in edges], [seed], allow_unused=True)
    started = head.matrix.numel() if head else 0
    return forward.flops // 2 // points, functions * backward.flops // 2 // points + started


class _Flops(TorchDispatchMode):
    """Counts operations by torch's formulas; torch's own counter does not take nested backward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=found)
        return found


def short(number: int) -> str:
    """Three digits and a unit: 1.23 M."""
    for unit in ("", " k", " M", " G", " T"):
        if number < 1000 or unit == " T":
            return f"{number:.3g}{unit}" if unit else str(number)
        number = number / 1000  # pyright: ignore
    return ""
