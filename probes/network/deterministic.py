"""How a network is run: as a deterministic function, in full precision, by operations whose graph shows all."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from tangentscope.probes.network.batch import Batch
from tangentscope.probes.network.pooling import SideBySide, untouched
from tangentscope.probes.network.state import ModuleState, kept

_PRECISIONS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


@contextmanager
def deterministic(model: nn.Module, device: torch.device) -> Iterator[ModuleState]:
    """Eval mode, gradients on, full precision; all that the modules hold is as before afterwards, also on error.

    A caller's no_grad, inference_mode or autocast would change or spoil the kernel, so they are lifted inside.
    What was compiled runs eagerly: a fused graph hides which operation used which parameter.
    """
    modules = list(model.modules())
    training = [module.training for module in modules]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if "torch._dynamo" in sys.modules:  # nothing can have been compiled without it
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
            with kept(model, device) as state:
                yield state
        finally:
            for module, flag in zip(modules, training, strict=True):
                module.training = flag


class _Hooks(threading.local):
    """Whether this thread put hooks on tensors since it began to watch; by how many watchers, over all threads."""

    seen = False


_hooks, _lock, _watchers = _Hooks(), threading.Lock(), [0]
_register_hook = Tensor.register_hook


def _noticed(self: Tensor, hook: Callable[..., Any]) -> Any:
    _hooks.seen = True
    return _register_hook(self, hook)


@contextmanager
def _hooks_noticed() -> Iterator[None]:
    """Notice hooks that are put on tensors inside: nothing in the graph shows them, and they change gradients."""
    with _lock:
        _watchers[0] += 1
        Tensor.register_hook = _noticed
    _hooks.seen = False
    try:
        yield
    finally:
        with _lock:
            _watchers[0] -= 1
            if not _watchers[0]:
                Tensor.register_hook = _register_hook


@contextmanager
def _step_by_step(modules: Sequence[nn.Module]) -> Iterator[None]:
    """LSTMs are made of plain operations: oneDNN's is one node, whose gradients are those of all steps together."""
    handles = []
    if torch._C._get_mkldnn_enabled():
        for module in modules:
            if isinstance(module, nn.LSTM):
                handles.append(module.register_forward_pre_hook(lambda *_: torch._C._set_mkldnn_enabled(False)))
                on_again = module.register_forward_hook(
                    lambda *_: torch._C._set_mkldnn_enabled(True), prepend=True, always_call=True
                )
                handles.append(on_again)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_watched(modules: Sequence[nn.Module], batch: Batch) -> tuple[Any, bool]:
    """What a network returns for ``batch``, and whether it put hooks on tensors, which change gradients.

    modules: all of the network, itself first.
    """
    model = modules[0]
    pooled = any(isinstance(module, nn.AvgPool2d) for module in modules)
    with _hooks_noticed(), _step_by_step(modules), SideBySide() if pooled and untouched() else nullcontext():
        return batch.run(model), _hooks.seen
