"""One measurement on two points before a loop begins, so that what cannot be measured shows at once.

All of it happens to copies: the network, its modes, gradients and buffers and the random generators stay as they are.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tangentscope.pipeline.config.kernel import Kernel
from tangentscope.pipeline.probing.given import Given
from tangentscope.pipeline.probing.networks import Attached
from tangentscope.pipeline.probing.points import draw_points
from tangentscope.pipeline.store.snapshots import load_state, plain_state, unwrapped
from tangentscope.pipeline.system.errors import UserError, one_line
from tangentscope.probes import givens_of, measure
from tangentscope.probes.network.batch import as_batch
from tangentscope.probes.network.deterministic import deterministic

_POINTS = 2
_TOLERANCE = {torch.float16: 0.05, torch.bfloat16: 0.05}  # of outputs, relative to the largest
_USUAL = 1e-3  # processors, and processors and GPUs, round differently


def two_points(points: Given) -> Given:
    """Two of them, or all; of class labels those with the smallest and the largest, which may be out of range."""
    targets = points.targets
    chosen = list(range(min(_POINTS, len(points))))
    if targets is not None and not targets.is_floating_point() and targets.numel():
        rows = targets.reshape(len(targets), -1).to(torch.int64)
        extremes = [int(rows.amin(1).argmin()), int(rows.amax(1).argmax())]
        chosen = list(dict.fromkeys([*extremes, *chosen]))[: len(chosen)]
    return points.take(torch.tensor(chosen))


def rehearse(
    subject: Attached,
    splits: Mapping[str, Given],
    kernel: Kernel,
    variables: Sequence[str],
    device: torch.device | None = None,
) -> None:
    """Measure all variables on two points of each split, as a prober will.

    Raises:
        UserError: They cannot be measured; a variable is named if it is that one alone.
    """
    device = device or torch.device("cpu")
    networks = {role: subject.network().to(device) for role in _roles(variables)}
    for split, points in splits.items():
        drawn = draw_points(two_points(points).to("cpu"), kernel.model_copy(update={"draws": 1, "size": _size(points)}))
        drawn = {name: tensor.to(device) for name, tensor in drawn.items()}

        def attempt(names: Sequence[str], drawn: Mapping[str, Tensor] = drawn) -> Exception | None:
            try:
                measure(
                    networks["present"], subject.inputs(drawn), drawn["draws"], kernel.outputs, names,
                    targets=drawn.get("targets"), loss=subject.loss(), step=1, previous_step=0,
                    initial=networks.get("initial"), previous=networks.get("previous"),
                    output=subject.output, parameters=subject.parameters,
                )  # fmt: skip
            except Exception as error:
                return error
            return None

        if (error := attempt(variables)) is None:
            continue
        failing = {name: cause for name in variables if (cause := attempt([name])) is not None}
        cause = _cause(next(iter(failing.values()), error))
        if failing and len(failing) < len(variables):
            raise UserError(f"attach(): {split}: {', '.join(failing)}: {cause}; or leave it out of variables=")
        raise UserError(f"attach(): {split}: two points could not be measured: {cause}")


def outputs(network: nn.Module, subject: Attached, points: Given) -> Tensor:
    """What a network gives for points, in eval mode, on the CPU; the network and random generators stay as they are."""
    network = unwrapped(network)
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    tensors = {name: tensor.to(device) for name, tensor in points.tensors().items()}
    batch = as_batch(subject.inputs(tensors), "inputs", subject.output)
    with deterministic(network, device):
        torch.manual_seed(0)  # for a forward pass that draws random numbers; the generators come back afterwards
        return batch.run(network).detach().to("cpu", torch.float64)


def same_function(live: nn.Module, subject: Attached, points: Given) -> str | None:
    """None if the travelling copy, with the network's state in it, gives the network's outputs; else what differs."""
    copied = subject.network()
    load_state(copied, {name: tensor.cpu() for name, tensor in plain_state(live).items()})
    ours, theirs = outputs(copied, subject, points), outputs(live, subject, points)
    kind = next((parameter.dtype for parameter in live.parameters()), torch.float32)
    scale = float(theirs.abs().max())
    apart = float((ours - theirs).abs().max())
    if not (apart > _TOLERANCE.get(kind, _USUAL) * scale):  # NaN on both sides tells nothing
        return None
    if not torch.equal(theirs, outputs(live, subject, points)):
        return None  # it gives other outputs at each call
    return (
        f"outputs at two points differ by {apart:.2g} (of {scale:.2g}) between the network and a copy with the same "
        "parameters and buffers"
    )


def _roles(variables: Sequence[str]) -> list[str]:
    needed = frozenset().union(*(givens_of(name) for name in variables))
    return ["present", *(role for role in ("initial", "previous") if f"{role}_kernel" in needed)]


def _size(points: Given) -> int:
    return min(_POINTS, len(points))


def _cause(error: Exception) -> str:
    return " ".join(str(error).split()) if isinstance(error, ValueError | TypeError) else one_line(error)
