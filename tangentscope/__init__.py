"""Watch the neural tangent kernel while networks learn.

>>> import tangentscope
>>> measurements = tangentscope.load("results/quickstart")  # doctest: +SKIP

What a study, a loop or a notebook needs stands here; :mod:`tangentscope.pipeline`, :mod:`tangentscope.probes`,
:mod:`tangentscope.models` and :mod:`tangentscope.tasks` have the rest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tangentscope.pipeline import attach, load
    from tangentscope.probes import (
        collective_variables,
        conjugate_kernels,
        draw_indices,
        feature_map,
        feature_metrics,
        kernel_plan,
        layer_kernels,
        layer_traces,
        measure,
        spectrum,
        tangent_kernel,
    )

__all__ = [
    "attach",
    "collective_variables",
    "conjugate_kernels",
    "draw_indices",
    "feature_map",
    "feature_metrics",
    "kernel_plan",
    "layer_kernels",
    "layer_traces",
    "load",
    "measure",
    "spectrum",
    "tangent_kernel",
]


def __getattr__(name: str) -> Any:
    """What is handed on is loaded when it is asked for: reading a table needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = import_module("tangentscope.pipeline" if name in ("attach", "load") else "tangentscope.probes")
    return getattr(room, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
