"""Networks that write while they run, and descriptions of what they hold."""

import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from kernel_graphs import Net
from torch import Tensor, nn

from tangentscope.probes import tangent_kernel


def inputs() -> Tensor:
    return torch.randn(4, 6)


def net(run: Callable[[Any, Tensor], Tensor], **attributes: object) -> Any:
    """A dense layer, a head and what ``run`` makes of them; ``attributes`` are set as they are."""
    made = Net(run, layer=nn.Linear(6, 6), head=nn.Linear(6, 2))
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def plain(model: nn.Module, x: Tensor) -> Tensor:
    """The kernel of the same layers without any side effects."""
    return tangent_kernel(nn.Sequential(model.layer, nn.Tanh(), model.head), x)


def ordinary(model: Any, x: Tensor) -> Tensor:
    return model.head(model.layer(x).tanh())


@dataclass
class Notes:
    calls: int = 0
    seen: list[Tensor] = field(default_factory=list)


@dataclass(slots=True)
class Slotted:
    calls: int = 0
    last: Tensor | None = None


class Layer:
    """As the caches of keys and values of language models: an object in a list of an object."""

    def __init__(self):
        self.keys: Tensor | None = None


def into_attribute(model: Any, rows: Tensor) -> None:
    model.kept = rows


def into_dict(model: Any, rows: Tensor) -> None:
    model.kept[f"rows {len(rows)}"] = rows


def into_another_key(model: Any, rows: Tensor) -> None:
    model.kept["new"] = model.kept.pop("old")


def into_nested(model: Any, rows: Tensor) -> None:
    model.kept["a"].setdefault("b", []).append(rows)


def into_list(model: Any, rows: Tensor) -> None:
    model.kept.append(rows)


def into_set(model: Any, rows: Tensor) -> None:
    model.kept.add(rows)


def into_ordered(model: Any, rows: Tensor) -> None:
    model.kept.move_to_end("first")
    model.kept["rows"] = rows


def into_counter(model: Any, rows: Tensor) -> None:
    model.kept["calls"] += 1


def into_notes(model: Any, rows: Tensor) -> None:
    model.kept.calls += 1
    model.kept.seen.append(rows)


def into_slots(model: Any, rows: Tensor) -> None:
    model.kept.calls += 1
    model.kept.last = rows


def into_layers(model: Any, rows: Tensor) -> None:
    model.kept.layers[0].keys = rows


def into_a_pair_in_place(model: Any, rows: Tensor) -> None:
    model.kept[1].add_(1)


def into_tensor(model: Any, rows: Tensor) -> None:
    model.kept += 1


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


HELD: dict[str, tuple[Callable[[Any, Tensor], None], Callable[[], Any]]] = {
    "attribute": (into_attribute, lambda: None),
    "dict": (into_dict, dict),
    "dict with entries": (into_dict, lambda: {"rows 4": torch.ones(2), "a": 1}),
    "renamed entry": (into_another_key, lambda: {"old": 1}),
    "ordered dict": (into_ordered, lambda: OrderedDict(first=1, second=2)),
    "default dict": (into_nested, lambda: defaultdict(dict)),
    "nested": (into_nested, lambda: {"a": {"b": [torch.ones(2)]}}),
    "counter": (into_counter, lambda: Counter(calls=3, others=1)),
    "list": (into_list, lambda: [torch.ones(2)]),
    "deque": (into_list, lambda: deque([torch.ones(2), torch.zeros(2)], maxlen=2)),
    "set": (into_set, lambda: {1, 2}),
    "dataclass": (into_notes, Notes),
    "slots": (into_slots, Slotted),
    "namespace": (into_notes, lambda: types.SimpleNamespace(calls=3, seen=[])),
    "objects in a list": (into_layers, lambda: types.SimpleNamespace(layers=[Layer()])),
    "tuple": (into_a_pair_in_place, lambda: (1, torch.zeros(2))),
    "named tuple": (into_a_pair_in_place, lambda: Pair(torch.zeros(2), torch.ones(2))),
    "tensor": (into_tensor, lambda: torch.zeros(3)),
    "tensor in numpy's memory": (into_tensor, lambda: torch.from_numpy(np.zeros(3))),
    "counted calls": (into_tensor, lambda: 300),
}


def described(value: Any) -> Any:
    """Which objects there are, and numbers in them."""
    if isinstance(value, Tensor):
        return id(value), value.tolist(), value.requires_grad, value._version
    if isinstance(value, dict):
        return id(value), type(value), [(key, described(each)) for key, each in value.items()]
    if isinstance(value, list | tuple | deque):
        return id(value), type(value), [described(each) for each in value]
    if isinstance(value, Slotted):
        return id(value), value.calls, described(value.last)
    if isinstance(value, Notes | Layer | types.SimpleNamespace):
        return id(value), described(vars(value))
    return id(value), set(value) if isinstance(value, set) else None
