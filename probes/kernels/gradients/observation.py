"""One forward pass as the engine sees it: outputs, their graph, and the shares that rules cover."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tangentscope.probes.kernels.gradients.autograd_graph import Graph, edge_shape
from tangentscope.probes.kernels.gradients.entries import Entries
from tangentscope.probes.kernels.gradients.parameter_groups import Share, shares_of
from tangentscope.probes.kernels.gradients.row_layouts import agree
from tangentscope.probes.kernels.gradients.row_ownership import Ownership
from tangentscope.probes.kernels.gradients.rule_check import agreeing
from tangentscope.probes.network.batch import Batch, TensorBatch
from tangentscope.probes.network.deterministic import run_watched
from tangentscope.probes.network.layers import Anatomy


@dataclass
class Observation:
    """One forward pass of ``batch``: outputs [N, O], their graph, and the shares that rules cover.

    values: [N, O], the outputs as they are. Where a point has no finite one, another point stands in its place in all
    the rest, so that it touches nothing else.
    entries: where the parameters meet the batch; None where hooks on tensors forbid to look at gradients there.
    """

    batch: Batch
    outputs: Tensor
    graph: Graph
    shares: list[Share]
    values: Tensor
    entries: Entries | None


class NoDependenceError(ValueError):
    """No trainable parameter has a part in the outputs."""

    def __init__(self) -> None:
        super().__init__(
            "the model's outputs do not depend on any trainable parameter, expected a differentiable function: "
            "remove detach() or no_grad() from its forward"
        )


def observe(
    anatomy: Anatomy, batch: Batch, alone: Tensor | None = None, like: Observation | None = None
) -> tuple[Observation, Tensor]:
    """Run the network on ``batch``, and on its last point alone unless its outputs ``alone`` [1, O] are given.

    The point alone shows a network that mixes points. like: several points, which tell of a single one what is its own
    there and what it would share with others.

    Raises:
        TypeError, ValueError: outputs that are no [N, ...] of a differentiable function of each point, see
            ``tangent_kernel``.
    """
    outputs, hooked = _run(anatomy, batch)
    values = outputs.detach()
    lost = ~torch.isfinite(values).any(1)
    if bool(lost.any()) and not bool(lost.all()):
        kept = (~lost).nonzero()[:, 0].cpu()
        places = torch.arange(len(batch))
        places[lost.cpu()] = kept[torch.arange(int(lost.sum())) % len(kept)]  # different ones, which show mixing
        batch, alone = batch.take(places), alone if not lost[-1] else None
        outputs, hooked = _run(anatomy, batch)
    if len(batch) == 1:
        alone = outputs
    elif alone is None:
        alone = outputs_alone(anatomy, batch, len(batch) - 1)
    check_apart(anatomy, batch, len(batch) - 1, outputs, alone)
    graph = Graph(outputs, anatomy.trainable.values())
    _lay_out_gradients(graph)
    if not any(graph.users[key] for key in anatomy.names):
        raise NoDependenceError
    if any("CheckpointFunction" in node.name() for node in graph.nodes):
        raise ValueError(
            f"{type(anatomy.model).__name__} hides parameters from autograd by reentrant checkpointing: "
            "pass use_reentrant=False to torch.utils.checkpoint"
        )
    # Torch gives the gradients at a tensor before or after its hooks, by what else is asked for.
    entries, shares = None, []
    if not hooked and not anatomy.hooked:
        pattern = like.entries if like is not None and len(batch) == 1 < len(like.batch) else None
        entries = Entries(graph, Ownership(graph, outputs, batch), pattern)
        shares = shares_of(anatomy, graph, entries)
        # Graphs differ in size anyway.
        about = (len(batch), entries.key) if isinstance(batch, TensorBatch) else ()
        shares = agreeing(anatomy, outputs, graph, shares, about)
    return Observation(batch, outputs, graph, shares, values, entries), alone.detach()


def _lay_out_gradients(graph: Graph) -> None:
    """Torch 2.14 on CPU: batch norm in eval mode misreads the gradient of a single image whose channels come last."""
    for node in graph.nodes:
        if node.name() == "NativeBatchNormBackward0" and edge_shape((node, 0))[0] == 1:
            node.register_prehook(lambda gradients: tuple(g if g is None else g.contiguous() for g in gradients))


def outputs_alone(anatomy: Anatomy, batch: Batch, point: int) -> Tensor:
    """[1, O], of one point of ``batch`` by itself."""
    return _run(anatomy, batch.take(torch.tensor([point])))[0].detach()


def check_apart(anatomy: Anatomy, batch: Batch, point: int, outputs: Tensor, alone: Tensor) -> None:
    """ValueError unless a point's outputs among those of ``batch`` [N, O] are those that it has ``alone`` [1, O]."""
    if agree(alone[0], outputs[point], anatomy.rounding, outputs):
        return
    if anatomy.rounds_elsewhere and len(batch) > 1:
        # Frozen parts may round more than the trainable ones: a point among copies of itself rounds as among others.
        copies = _run(anatomy, batch.take(torch.full((len(batch),), point)))[0]
        if agree(copies[point], outputs[point], anatomy.rounding, outputs):
            return
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


def _run(anatomy: Anatomy, batch: Batch) -> tuple[Tensor, bool]:
    """The network's outputs as [N, O], and whether it put hooks on tensors."""
    returned, hooked = run_watched(anatomy.modules, batch)
    found = check_shape(returned, len(batch))
    if not found.requires_grad:
        raise NoDependenceError
    # What ends the network stays in sight.
    return found if found.dim() == 2 else found.reshape(len(batch), -1), hooked
