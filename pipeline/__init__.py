"""The pipeline: from a study file to trained runs, measured snapshots, MLflow runs, tables and figures.

>>> import pipeline
>>> measurements = pipeline.load("results/quickstart")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from pipeline.shadows import check_not_shadowed
from pipeline.store import load

if TYPE_CHECKING:
    from pipeline.attached import attach

__all__ = ["attach", "load"]


def __getattr__(name: str) -> Any:
    if name == "attach":  # loads torch, which reading a table does not need
        check_not_shadowed()
        from pipeline.attached import attach

        return attach
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
