"""What one forward pass and its backward passes show of a network's layers, without changing the network."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer: its inputs, the shape of its outputs and their place in the autograd graph."""

    inputs: Tensor
    outputs_shape: tuple[int, ...]
    edge: GradientEdge | None  # None where the outputs need no gradient


@contextmanager
def deterministic(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode, gradients on, full precision; every module's own train/eval flag comes back, also on error.

    A caller's no_grad, inference_mode or autocast would change or spoil the kernel, so they are lifted inside.
    Compiled modules run eagerly: a fused graph hides which layer used which parameter.
    """
    modules = list(model.modules())
    training = [module.training for module in modules]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if any(hasattr(module, "_orig_mod") or module._compiled_call_impl is not None for module in modules):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if device.type == "cuda" and any(isinstance(module, nn.RNNBase) for module in modules):
            # cuDNN differentiates recurrent layers in train mode only.
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        try:
            model.eval()
            yield
        finally:
            for module, flag in zip(modules, training, strict=True):
                module.training = flag


def watch(
    model: nn.Module, layers: Iterable[nn.Module], inputs: Tensor
) -> tuple[Any, dict[nn.Module, list[LayerCall]]]:
    """Run ``model(inputs)`` and note every call of ``layers``; the hooks are gone afterwards, also on error."""
    calls: dict[nn.Module, list[LayerCall]] = defaultdict(list)

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Tensor) -> None:
        received = args[0] if args else kwargs["input"]
        # Cloned because later operations may overwrite them. Of the outputs only the gradient edge is kept: it still
        # means this layer's outputs after an in-place activation has overwritten the tensor.
        edge = get_gradient_edge(outputs) if outputs.requires_grad else None
        calls[module].append(LayerCall(received.detach().clone(), tuple(outputs.shape), edge))

    # First among the hooks, so that other hooks have not replaced the layer's outputs yet.
    handles = [layer.register_forward_hook(note, prepend=True, with_kwargs=True) for layer in layers]
    try:
        outputs = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, calls


def parameter_uses(outputs: Tensor) -> Counter[int]:
    """How many operations in the graph of ``outputs`` take each leaf, by ``id`` of the leaf.

    Counts what module hooks cannot see: tied weights, and functional uses of a layer's weight.
    """
    uses: Counter[int] = Counter()
    pending = [outputs.grad_fn]
    seen = set(pending)
    while pending:
        node = pending.pop()
        if node is None:
            continue
        for following, _ in node.next_functions:
            if following is None:
                continue
            leaf = getattr(following, "variable", None)
            if leaf is not None:
                uses[id(leaf)] += 1
            elif following not in seen:
                seen.add(following)
                pending.append(following)
    return uses


def gradients_at(functions: Tensor, calls: Sequence[LayerCall]) -> list[Tensor]:
    """Gradients of the scalar functions [N, K] with respect to each call's outputs: a list of [N, K, ...].

    One backward pass per function for all N points at once, valid because points do not influence each other.
    """
    if not calls:
        return []
    points, count = functions.shape
    edges = [call.edge for call in calls if call.edge is not None]
    if len(edges) != len(calls):
        raise ValueError("a layer call outside the autograd graph has no gradients: pass calls with an edge only")
    gradients = [functions.new_zeros((points, count, *call.outputs_shape[1:])) for call in calls]
    for k in range(count):
        found = torch.autograd.grad(functions[:, k].sum(), edges, retain_graph=k + 1 < count, allow_unused=True)
        for gradient, value in zip(gradients, found, strict=True):
            if value is not None:
                gradient[:, k] = value
    return gradients
