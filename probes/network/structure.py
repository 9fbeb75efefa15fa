"""Structures of tensors: mappings, tuples, lists and dataclasses, nested as one likes, with constants among them."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor


def parts_of(data: Any) -> list[tuple[str, Any]] | None:
    """What a structure holds, each with the code that takes it out; None for what is no structure."""
    if isinstance(data, Mapping):
        return [(f"[{key!r}]", part) for key, part in data.items()]
    if isinstance(data, tuple | list):
        names = getattr(data, "_fields", None)
        return [(f".{names[place]}" if names else f"[{place}]", part) for place, part in enumerate(data)]
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return [(f".{name}", getattr(data, name)) for name in _attributes(data)]
    return None


def leaves_of(data: Any, label: str = "") -> Iterator[tuple[str, Any]]:
    """All that is no structure itself, with the code that takes it out of ``data``."""
    parts = parts_of(data)
    if parts is None:
        yield label, data
    for name, part in parts or ():
        yield from leaves_of(part, label + name)


def tensors_of(data: Any) -> dict[str, Tensor]:
    """The tensors among the leaves, in the order in which ``mapped`` meets them."""
    return {label: leaf for label, leaf in leaves_of(data) if isinstance(leaf, Tensor)}


def mapped(data: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor changed; a part without tensors is passed on as it is."""
    if isinstance(data, Tensor):
        return change(data)
    parts = parts_of(data)
    if not parts or not any(isinstance(leaf, Tensor) for _, leaf in leaves_of(data)):
        return data
    changed = [mapped(part, change) for _, part in parts]
    if isinstance(data, Mapping):
        entries = dict(zip(data, changed, strict=True))
        if not isinstance(data, MutableMapping):
            return entries
        filled = copy.copy(data)
        for key, part in entries.items():
            filled[key] = part
        return filled
    if isinstance(data, tuple | list):
        return type(data)(*changed) if hasattr(data, "_fields") else type(data)(changed)
    filled = copy.copy(data)  # past __init__ and __post_init__: what they made of their arguments is there
    for name, part in zip(_attributes(data), changed, strict=True):
        object.__setattr__(filled, name, part)  # frozen ones too
    return filled


def _attributes(data: Any) -> list[str]:
    """Of a dataclass: its fields, and what else it keeps, which may have been made of them."""
    fields = [field.name for field in dataclasses.fields(data) if hasattr(data, field.name)]
    return list(dict.fromkeys([*fields, *getattr(data, "__dict__", ())]))
