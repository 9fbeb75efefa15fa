"""How often the engine asks a tensor for its values: there the processor waits for a GPU."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_architectures import resnet, vision_transformer
from kernel_brute_force import TREATMENTS, Inputs
from kernel_graphs import gin, molecule
from kernel_networks import mlp
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import Batch

from tangentscope.probes import tangent_kernel

ASKING = ("_local_scalar_dense", "bincount", "equal", "masked_select", "nonzero", "repeat_interleave", "unique")
"""Parts of the names of operations whose results, or their shapes, depend on values."""


class Asked(TorchDispatchMode):
    """Counts operations that ask for values, and all others."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        asks = name != "not_equal" and any(part in name for part in ASKING)
        self.found[name if asks else "others"] += 1
        return func(*args, **(kwargs or {}))


def graphs(points: int) -> Inputs:
    """Of one size, since how many sizes there are decides how they are compared."""
    return Batch.from_data_list([molecule(4) for _ in range(points)])


@pytest.mark.parametrize("outputs", TREATMENTS)
@pytest.mark.parametrize(
    ("build", "some"),
    [
        (lambda: mlp(6, 9, 7, 3), lambda points: torch.randn(points, 6)),
        (resnet, lambda points: torch.randn(points, 2, 6, 6)),
        (vision_transformer, lambda points: torch.randn(points, 2, 4, 4)),
        (gin, graphs),
    ],
    ids=["rows", "images", "patches", "graphs"],
)
def test_more_points_ask_no_more(
    build: Callable[[], nn.Module], some: Callable[[int], Inputs], outputs: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TANGENTSCOPE_CHECK", "never")  # which is made at first alone
    model = build()
    few, many = asked(model, some(8), outputs), asked(model, some(200), outputs)
    assert many.pop("others") > few.pop("others")  # in more pieces
    assert few.total() > 0
    assert many == few


def asked(model: nn.Module, inputs: Inputs, outputs: str) -> Counter[str]:
    with Asked() as mode:
        tangent_kernel(model, inputs, outputs)
    return mode.found
