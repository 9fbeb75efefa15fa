"""What one forward pass and its backward passes show of a network's layers, without changing the network."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from probes.kernels.batch import Batch
from probes.kernels.pooling import SideBySide


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer: its inputs, the shape of its outputs and their place in the autograd graph."""

    module: nn.Module
    inputs: Tensor
    version: int  # of the inputs' memory, as the layer saw it
    outputs_shape: tuple[int, ...]
    edge: GradientEdge | None  # None where the outputs need no gradient
    parameters: dict[str, int]  # by name, the id of what the layer had in its place

    @property
    def own_parameters(self) -> bool:
        """The layer worked with its own parameters: masks and hypernetworks put others in their place."""
        return self.parameters == _ids(self.module)

    @property
    def intact(self) -> bool:
        """Nothing has overwritten the inputs since."""
        return self.inputs._version == self.version


_PRECISIONS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


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
            stack.callback(setattr, torch.backends.cudnn, "enabled", torch.backends.cudnn.enabled)
            torch.backends.cudnn.enabled = False
        for name in _PRECISIONS:  # convolutions on CUDA round to 10 bits by default
            backend = attrgetter(name)(torch.backends)
            if (own := backend.fp32_precision) != "ieee":
                stack.callback(setattr, backend, "fp32_precision", own)
                backend.fp32_precision = "ieee"
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, flag in zip(modules, training, strict=True):
                module.training = flag


def watch(model: nn.Module, layers: Iterable[nn.Module], batch: Batch) -> tuple[Any, list[LayerCall]]:
    """Run the network on ``batch`` and note every call of ``layers``, in order; the hooks are gone afterwards."""
    calls: list[LayerCall] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        received = args[0] if args else kwargs.get("input")
        # Of the outputs only the gradient edge is kept: it still means this layer's outputs after an in-place
        # activation has overwritten the tensor.
        if isinstance(received, Tensor) and isinstance(outputs, Tensor):
            edge = get_gradient_edge(outputs) if outputs.requires_grad else None
            received = received.detach()
            about = received._version, tuple(outputs.shape), edge, _ids(module)
            calls.append(LayerCall(module, received, *about))

    # First among the hooks, so that other hooks have not replaced the layer's outputs yet.
    handles = [layer.register_forward_hook(note, prepend=True, with_kwargs=True) for layer in layers]
    pooled = any(isinstance(module, nn.AvgPool2d) for module in model.modules())
    try:
        with SideBySide() if pooled else nullcontext():
            outputs = batch.run(model)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, calls


def _ids(module: nn.Module) -> dict[str, int]:
    return {name: id(getattr(module, name)) for name in module._parameters}
