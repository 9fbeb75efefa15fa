"""Places where modules keep values: their attributes, and dicts, lists, sets and plain objects among these."""

import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from operator import is_
from typing import Any

import torch
from torch import nn

Shown = Callable[[Any], Any]
"""What passes are to find in place of a value."""


class Mapping:
    """A dict of one of the standard types, or the attributes of an object in its ``__dict__``.

    own: what it held at first; shown: what passes are to find in it.
    """

    __slots__ = ("held", "own", "shown")

    def __init__(self, held: dict[Any, Any]):
        self.held, self.own = held, dict(held)
        self.shown = self.own

    def values(self) -> Iterable[Any]:
        """What it held at first."""
        return self.own.values()

    def show(self, shown: Shown) -> None:
        """Have passes find other values in it."""
        self.shown = {key: shown(value) for key, value in self.own.items()}

    def put(self, values: dict[Any, Any]) -> None:
        """Have it hold these and no others, in their order."""
        held = self.held
        if len(held) == len(values) and all(map(is_, held.values(), values.values())) and all(map(is_, held, values)):
            return
        held.clear()
        held.update(values)


class Sequence:
    """A list or a deque; see ``Mapping``."""

    __slots__ = ("held", "own", "shown")

    def __init__(self, held: "list[Any] | deque[Any]"):
        self.held, self.own = held, list(held)
        self.shown = self.own

    def values(self) -> Iterable[Any]:
        """What it held at first."""
        return self.own

    def show(self, shown: Shown) -> None:
        """Have passes find other values in it."""
        self.shown = [shown(value) for value in self.own]

    def put(self, values: list[Any]) -> None:
        """Have it hold these and no others."""
        if len(self.held) != len(values) or not all(map(is_, self.held, values)):
            self.held.clear()
            self.held.extend(values)


class Unordered:
    """A set; see ``Mapping``. Its members are what they are: a copy of a tensor would not be found in it."""

    __slots__ = ("held", "own", "shown")

    def __init__(self, held: set[Any]):
        self.held, self.own = held, set(held)
        self.shown = self.own

    def values(self) -> Iterable[Any]:
        """None that could be shown as others."""
        return ()

    def show(self, shown: Shown) -> None:
        """Members stay."""

    def put(self, values: set[Any]) -> None:
        """Have it hold these and no others."""
        if set(map(id, self.held)) != set(map(id, values)):
            self.held.clear()
            self.held.update(values)


class Attributes:
    """Attributes that lie in no ``__dict__``: in ``__slots__``, or within TorchScript; see ``Mapping``."""

    __slots__ = ("own", "read", "shown", "write")

    def __init__(self, names: Iterable[str], read: Callable[[str], Any], write: Callable[[str, Any], Any]):
        self.read, self.write = read, write
        self.own = {name: read(name) for name in names}
        self.shown = self.own

    @classmethod
    def of_script(cls, module: nn.Module) -> "Attributes | None":
        """Buffers and other attributes of a module of TorchScript; None if there are none or it is no such module."""
        if not isinstance(module, torch.jit.ScriptModule):
            return None
        kinds = getattr(module, "_concrete_type", None)  # frozen modules have none
        names = [name for name, (_, parameter) in kinds.get_attributes().items() if not parameter] if kinds else []
        return cls(names, module._c.getattr, module._c.setattr) if names else None  # type: ignore[arg-type]

    @classmethod
    def of_slots(cls, owner: object) -> "Attributes | None":
        """What an object has in ``__slots__``; None if its class declares none."""
        names = _slots(type(owner))
        return cls(names, partial(_read_slot, owner), partial(_write_slot, owner)) if names else None

    def values(self) -> Iterable[Any]:
        """What they were at first."""
        return self.own.values()

    def show(self, shown: Shown) -> None:
        """Have passes find other values."""
        self.shown = {name: shown(value) for name, value in self.own.items()}

    def put(self, values: dict[str, Any]) -> None:
        """Give them these values; dicts and lists of TorchScript are new objects whenever they are read."""
        for name, value in values.items():
            if self.read(name) is not value:
                self.write(name, value)


Place = Mapping | Sequence | Unordered | Attributes

_EMPTY_SLOT = object()

_KINDS: dict[type, Callable[[Any], Place]] = {
    **dict.fromkeys((dict, OrderedDict, defaultdict, Counter), Mapping),
    **dict.fromkeys((list, deque), Sequence),
    set: Unordered,
}

_FOREIGN = sys.stdlib_module_names | {"torch", "numpy"}

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type, torch.dtype, torch.device, torch.Size}) | {
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    partial,
}
"""Types of most attributes, which hold nothing that a pass could change in place."""


def places_in(value: Any) -> Iterator[Place]:
    """The place that a container is, or the places that a plain object has; none for anything else.

    Plain objects have no ancestors that Python or torch bring along: threads, files, optimizers and the like are no
    caches, and may well change meanwhile without any doing of a pass.
    """
    kind = type(value)
    if kind in _KINDS:
        yield _KINDS[kind](value)
    elif kind is types.SimpleNamespace or not any(map(_brought_along, kind.__mro__)):
        yield from attributes_of(value)


def attributes_of(owner: object) -> Iterator[Place]:
    """An object's attributes; of a weak proxy none, which stands for an object that belongs to somebody else."""
    with suppress(AttributeError):  # a proxy says that it has what its object has
        yield Mapping(object.__getattribute__(owner, "__dict__"))
    if (slots := Attributes.of_slots(owner)) is not None:
        yield slots


def empty_like(value: Any) -> Any:
    """A new and empty container of the same type, or None in place of a tensor or a tuple."""
    if isinstance(value, defaultdict):
        return defaultdict(value.default_factory)
    if isinstance(value, deque):
        return deque(maxlen=value.maxlen)
    return type(value)() if type(value) in _KINDS else None


def _brought_along(kind: type) -> bool:
    root = kind.__module__.partition(".")[0]
    return root in _FOREIGN and kind.__module__ not in ("abc", "typing") and kind is not object


@lru_cache(maxsize=256)
def _slots(kind: type) -> list[str]:
    return [
        name
        for ancestor in kind.__mro__
        if ancestor.__dict__.get("__slots__")
        for name, member in ancestor.__dict__.items()
        if isinstance(member, types.MemberDescriptorType)
    ]


def _read_slot(owner: object, name: str) -> Any:
    try:
        return object.__getattribute__(owner, name)
    except AttributeError:
        return _EMPTY_SLOT


def _write_slot(owner: object, name: str, value: Any) -> None:
    if value is _EMPTY_SLOT:
        object.__delattr__(owner, name)
    else:
        object.__setattr__(owner, name, value)
