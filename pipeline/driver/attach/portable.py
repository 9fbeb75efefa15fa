"""A copy of a user's network that can travel to other processes: on the CPU, without wrappers and without a graph."""

import copy
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from torch import Tensor, nn

from tangentscope.pipeline.store.snapshots import is_wrapper, unwrapped
from tangentscope.pipeline.system.errors import UserError, one_line

_DEPTH = 3  # containers within one another that are looked into for tensors of a graph


def portable(network: nn.Module) -> nn.Module:
    """A copy of what DDP, DataParallel or torch.compile may have been put around, as a whole or in parts.

    Nothing of the network changes, and it needs no memory of a GPU.

    Raises:
        UserError: It holds what cannot be copied, or parameters that have no shape yet.
    """
    network = unwrapped(network)
    if shapeless := [name for name, p in network.named_parameters() if nn.parameter.is_lazy(p) or p.is_meta]:
        raise UserError(
            f"attach(): parameter {shapeless[0]} has no numbers yet, expected a network that is ready to train: pass "
            "one batch through it first"
        )
    memo: dict[int, Any] = {}
    for tensor in chain(network.parameters(), network.buffers()):
        if type(tensor) in (nn.Parameter, Tensor) and tensor.is_cuda:
            memo[id(tensor)] = _on_host(tensor)
    for tensor in _computed(network):  # old weight_norm and spectral_norm keep what their hooks compute at each pass
        memo[id(tensor)] = tensor.detach().cpu().clone()
    try:
        for part in reversed(list(network.modules())):
            if is_wrapper(part):
                memo[id(part)] = copy.deepcopy(unwrapped(part), memo)
        copied = copy.deepcopy(network, memo).cpu()
    except Exception as error:
        mend = "keep what cannot be copied (files, locks, loaders) outside the module"
        raise UserError(f"attach(): {type(network).__name__} cannot be copied ({one_line(error)}); {mend}") from error
    for parameter in copied.parameters():
        parameter.grad = None
    return copied


def _on_host(tensor: Tensor) -> Tensor:
    values = tensor.detach().cpu().clone()
    return nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values


def _computed(network: nn.Module) -> Iterator[Tensor]:
    """Tensors with a graph that modules keep as attributes."""
    for module in network.modules():
        yield from _in(vars(module), _DEPTH)


def _in(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.grad_fn is not None:
            yield value
    elif depth and isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _in(each, depth - 1)
