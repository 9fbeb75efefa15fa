"""Our own engine, as a user calls it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from kernel_peers.cells import build
from kernel_peers.torch_warm_up import warm_up
from torch import Tensor

from probes import tangent_kernel


def prepare(cell: Path, name: str, sizes: dict[str, int], variant: str, device: str) -> Callable[[], Tensor]:
    """The timed call."""
    model, inputs = build(name, sizes, device)
    warm_up(device)
    return lambda: tangent_kernel(model, inputs, "full")


def entries(kernel: Tensor, points: np.ndarray, outputs: np.ndarray, per_point: int) -> np.ndarray:
    """Θ between the given rows."""
    rows = points * per_point + outputs
    return kernel[rows[:, None], rows].cpu().numpy()


def plan(name: str, sizes: dict[str, int]) -> dict[str, int | str] | None:
    """Multiply-adds of the cheapest exact path, and the plan in words; None where the engine has no planner."""
    try:
        from probes import kernel_plan
    except ImportError:
        return None
    found = kernel_plan(*build(name, sizes), outputs="full")
    return {"multiply_adds": int(found.multiply_adds), "text": str(found)}
