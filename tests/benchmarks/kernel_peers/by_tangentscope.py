"""Our own engine, as a user calls it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from kernel_peers.cells import build
from kernel_peers.torch_warm_up import warm_up
from torch import Tensor

from tangentscope.probes import tangent_kernel


def prepare(cell: Path, name: str, sizes: dict[str, int], variant: str, device: str) -> Callable[[], Tensor]:
    """The timed call."""
    model, inputs = build(name, sizes, device)
    warm_up(device)
    return lambda: tangent_kernel(model, inputs, "full")


def entries(kernel: Tensor, points: np.ndarray, outputs: np.ndarray, per_point: int) -> np.ndarray:
    """Θ between the given rows."""
    rows = points * per_point + outputs
    return kernel[rows[:, None], rows].cpu().numpy()


def plan(name: str, sizes: dict[str, int]) -> dict[str, Any] | None:
    """Multiply-adds of the cheapest exact path, and the plan in words; None where the engine has no planner.

    Also how many layers and numbers there are to learn, and the same of the layers that no rule covers.
    """
    try:
        from tangentscope.probes import kernel_plan
    except ImportError:
        return None
    found = kernel_plan(*build(name, sizes), outputs="full")
    uncovered = [layer for layer in found.layers if layer.path == "per-sample jacobian"]
    return {
        "multiply_adds": int(found.multiply_adds),
        "text": str(found),
        "layers": len({layer.name for layer in found.layers}),
        "parameters": sum(layer.parameters for layer in found.layers),
        "uncovered": [layer.name for layer in uncovered],
        "uncovered_parameters": sum(layer.parameters for layer in uncovered),
    }
