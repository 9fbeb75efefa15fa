"""Copies of tensors for passes to write into, so that nobody writes into their user's."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

AT_ONCE = 32 * 2**20
"""Bytes copied at once; whatever is held beyond that shares the user's memory until a pass writes into it.

Masks and running statistics stay below it in most networks. Sharing costs nothing for a bank of features or frozen
weights of gigabytes, but it is a feature that torch has for itself so far, which operators of other packages may not
know: hence not for all tensors.
"""


def copyable(tensor: Tensor) -> bool:
    """A plain strided tensor that is no parameter and has no history: what forward passes write into."""
    return (
        type(tensor) is Tensor
        and not tensor.requires_grad
        and tensor.layout is torch.strided
        and not tensor.is_quantized
        and tensor.device.type != "meta"
    )


class Copies:
    """A copy of each tensor; tensors of one dtype that share memory have copies that share memory.

    A pass that writes into a copy spoils it for the next one, which ``renew`` mends. Numbers written behind autograd's
    back (``tensor.data.add_(1)``) are not seen: later passes of the computation find them, though never the user.
    """

    def __init__(self, tensors: Iterable[Tensor], parameters: Iterable[Tensor]):
        """``parameters`` are never copied, nor is what shares their memory."""
        together: dict[int, dict[int, Tensor]] = defaultdict(dict)
        for tensor in tensors:
            together[_memory(tensor)][id(tensor)] = tensor
        if together:
            for parameter in parameters:
                if type(parameter) in (Tensor, nn.Parameter) and parameter.layout is torch.strided:
                    together.pop(_memory(parameter), None)
        self._groups = list(together.values())
        self._copied = 0
        self._copies: dict[int, Tensor] = {}
        self._as_made: dict[int, tuple[int, int]] = {}
        for group in self._groups:
            self._copy(group)

    def of(self, tensor: Tensor) -> Tensor:
        """The tensor's copy, or itself where it has none."""
        return self._copies.get(id(tensor), tensor)

    def renew(self) -> bool:
        """Replace copies that have been written into by new ones; whether there were any."""
        spoilt = [group for group in self._groups if any(self._spoilt(key) for key in group)]
        self._copied = 0
        for group in spoilt:
            self._copy(group)
        return bool(spoilt)

    def _spoilt(self, key: int) -> bool:
        copy = self._copies[key]
        return copy.requires_grad or (copy._version, _memory(copy)) != self._as_made[key]

    def _copy(self, group: dict[int, Tensor]) -> None:
        for key, copy in zip(group, self._copies_of(list(group.values())), strict=True):
            if noted := vars(group[key]):  # by the user, as attributes of the tensor
                vars(copy).update(noted)
            self._copies[key] = copy
        for key in group:  # views count the changes of all of them
            self._as_made[key] = self._copies[key]._version, _memory(self._copies[key])

    def _copies_of(self, tensors: list[Tensor]) -> list[Tensor]:
        if len(tensors) == 1 or any(t.dtype != tensors[0].dtype or t.is_conj() or t.is_neg() for t in tensors):
            return [self._copy_of(tensor) for tensor in tensors]
        first = tensors[0]
        storage = first.untyped_storage()
        whole = torch.empty(0, dtype=first.dtype, device=first.device)
        whole = self._copy_of(whole.set_(storage, 0, (storage.nbytes() // first.itemsize,)))  # type: ignore[arg-type]
        return [whole.as_strided(t.size(), t.stride(), t.storage_offset()) for t in tensors]

    def _copy_of(self, tensor: Tensor) -> Tensor:
        if self._copied + tensor.nbytes > AT_ONCE:
            try:
                return tensor._lazy_clone()
            except RuntimeError:  # the memory is numpy's, or another process has it too
                return tensor.clone()
        self._copied += tensor.nbytes
        return tensor.clone()


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
