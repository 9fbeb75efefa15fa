"""What a network holds, kept for its user while passes of ours run.

A forward pass may write: into buffers, caches, counters, gradients. Every pass is to find what the user left, so that
a network is one function and no pass meets the graph of another; and the user is to find it all again, also after an
error. Passes write into copies, see ``Copies``, and the user's own tensors are put back.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tangentscope.probes.network.copies import Copies, copyable
from tangentscope.probes.network.places import ATOMS, Attributes, Mapping, Place, attributes_of, empty_like, places_in
from tangentscope.probes.network.randomness import random_kept, rewinder

Cache = tuple[nn.Module, str]
"""A module and the name of its attribute."""

DEPTH = 3
"""Containers and plain objects within one another that are looked into, from a module's attribute on."""

LENGTH = 1000
"""Containers of more values come back with the same values, but are not looked into: they are data, and no caches."""

_OF_ALL_MODULES = frozenset(vars(nn.Module()))
_REGISTERED = ("_parameters", "_buffers", "_modules")


class ModuleState:
    """What the modules of a network hold: buffers, attributes, caches, and the gradients of parameters.

    Also of modules that are in no ``modules()``, where an attribute or a container leads to them. Parameters are
    neither copied nor replaced, and hooks are left alone.
    """

    def __init__(self, model: nn.Module):
        """What it holds now; nothing is changed yet."""
        self._places: list[Place] = []
        self._copied: list[Place] = []  # those with tensors among their values
        self._empty: list[dict[str, Any]] = []  # nothing was registered there
        self._attributes: dict[int, Mapping] = {}  # by id of the module
        self._generators: list[Callable[[], object]] = []
        self._tensors: list[Tensor] = []
        self._leaves: list[tuple[Tensor, bool, Tensor | None]] = []  # with requires_grad, grad
        self._seen: set[int] = set()
        self._modules: list[nn.Module] = [model]
        self._emptied: list[Cache] = []
        while self._modules:
            self._look_at(self._modules.pop())
        self._copies = Copies(self._tensors, (leaf for leaf, _, _ in self._leaves))
        self._show()

    def renew(self) -> None:
        """Have the next pass find everything as the user left it: before every pass."""
        if self._copies.renew() or self._emptied:
            self._show()
        for place in self._places:
            place.put(place.shown)  # type: ignore[arg-type]
        self._put_rest()
        for leaf, _, _ in self._leaves:
            if leaf.grad is not None:
                leaf.grad = None  # so that a backward pass within forward adds nothing to the user's

    def restore(self) -> None:
        """Put everything back, the user's own tensors among it."""
        for place in self._places:
            place.put(place.own)  # type: ignore[arg-type]
        self._put_rest()
        for leaf, _, gradient in self._leaves:
            if leaf.grad is not gradient:
                leaf.grad = gradient

    def _put_rest(self) -> None:
        if any(self._empty):
            for held in self._empty:
                held.clear()
        for rewind in self._generators:
            rewind()
        for leaf, wanted, _ in self._leaves:
            if leaf.requires_grad is not wanted:
                leaf.requires_grad_(wanted)

    def empty(self, caches: Iterable[Cache]) -> None:
        """Let passes find None in place of these tensors and empty containers in place of theirs, until ``refill``.

        A cache that a pass without gradients has filled hides the parameters it was computed from. But what looks like
        a cache may be constants: only a network whose outputs remain the same may be taken like this.
        """
        self.refill()
        self._emptied = list(caches)

    def refill(self) -> None:
        """Let passes find the user's caches again."""
        for module, _ in self._emptied:
            place = self._attributes[id(module)]
            place.shown = place.own
        self._emptied = []
        self._show()

    def _show(self) -> None:
        for place in self._copied:
            place.show(self._shown)
        for module, name in self._emptied:
            place = self._attributes[id(module)]
            place.shown = place.shown | {name: empty_like(place.own[name])}

    def _shown(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._copies.of(value)
        if isinstance(value, tuple) and len(value) <= LENGTH:
            values = [self._shown(each) for each in value]
            if any(new is not old for new, old in zip(values, value, strict=True)):
                return value._make(values) if hasattr(value, "_make") else type(value)(values)  # type: ignore[attr-defined]
        return value

    def _look_at(self, module: nn.Module) -> None:
        if id(module) in self._seen:
            return
        self._seen.add(id(module))
        for place in attributes_of(module):
            values = place.values()
            if isinstance(place, Mapping):
                self._attributes[id(module)] = place
                values = [value for name, value in place.own.items() if name not in _OF_ALL_MODULES]
            self._note(place, values, DEPTH)
        if (script := Attributes.of_script(module)) is not None:
            self._note(script, script.values(), DEPTH)
        for name in _REGISTERED:
            held = getattr(module, name)
            if type(held) is not dict:
                self._look_into_all(held.values(), 0)
            elif held:
                self._note(place := Mapping(held), place.values(), 0)
            else:
                self._empty.append(held)

    def _note(self, place: Place, values: Iterable[Any], depth: int) -> None:
        self._places.append(place)
        if self._look_into_all(values, depth):
            self._copied.append(place)

    def _look_into_all(self, values: Iterable[Any], depth: int) -> bool:
        """Whether passes are to find copies in place of some of the values."""
        copied = False
        for value in values:
            if type(value) not in ATOMS and self._look_into(value, depth):
                copied = True
        return copied

    def _look_into(self, value: Any, depth: int) -> bool:
        """Note what ``value`` holds, ``depth`` containers within one another; whether passes are to find a copy."""
        if isinstance(value, Tensor):
            return self._look_at_tensor(value)
        if isinstance(value, nn.Module):
            self._modules.append(value)
        elif isinstance(value, tuple):
            return len(value) <= LENGTH and self._look_into_all(value, depth)
        elif id(value) not in self._seen:
            self._seen.add(id(value))
            if (rewind := rewinder(value)) is not None:
                self._generators.append(rewind)
            elif depth:
                for place in places_in(value):
                    self._note(place, place.values() if len(place.own) <= LENGTH else (), depth - 1)
        return False

    def _look_at_tensor(self, tensor: Tensor) -> bool:
        if copyable(tensor):
            self._tensors.append(tensor)
            return True
        if tensor.is_leaf and id(tensor) not in self._seen:
            self._seen.add(id(tensor))
            self._leaves.append((tensor, tensor.requires_grad, tensor.grad))
        return False


_kept: dict[int, ModuleState] = {}
"""By id, of the networks that are kept at the moment."""


@contextmanager
def kept(model: nn.Module, device: torch.device) -> Iterator[ModuleState]:
    """What the network holds is as before afterwards, and so are the global random generators; also on error.

    Generators go on from pass to pass: a network that draws random numbers is not made to look like a function.
    """
    outer = _kept.get(id(model))
    state = ModuleState(model)
    with random_kept(device):
        try:
            _kept[id(model)] = state
            state.renew()
            yield state
        finally:
            state.restore()
            del _kept[id(model)]
            if outer is not None:
                _kept[id(model)] = outer


def renew(model: nn.Module) -> None:
    """Before a pass: see ``ModuleState.renew``. Does nothing for a network that is not ``kept``."""
    if (state := _kept.get(id(model))) is not None:
        state.renew()


def caches(model: nn.Module) -> list[Cache]:
    """Attributes of modules that hold floating-point tensors which are neither parameters nor buffers.

    Tensors, or containers of them within one or two others.
    """
    return [
        (module, name)
        for module in model.modules()
        for name, value in vars(module).items()
        if name not in _OF_ALL_MODULES and _is_cache(value, 2)
    ]


def _is_cache(value: Any, depth: int) -> bool:
    if isinstance(value, Tensor):
        parameter = isinstance(value, nn.Parameter) or (value.is_leaf and value.requires_grad)
        return not parameter and (value.is_floating_point() or value.is_complex())
    if isinstance(value, dict | list | tuple | deque):
        values = list(value.values()) if isinstance(value, dict) else list(value)
        return bool(depth) and len(values) <= LENGTH and any(_is_cache(each, depth - 1) for each in values)
    return False
