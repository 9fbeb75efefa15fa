"""The pipeline: from a study file to trained runs, measured snapshots, MLflow runs, tables and figures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tangentscope.pipeline.driver.attach.attach import attach
    from tangentscope.pipeline.driver.load import load

__all__ = ["attach", "load"]


def __getattr__(name: str) -> Any:
    """Both are loaded when they are asked for: no wing waits for another one that it does not use."""
    if name == "attach":
        from tangentscope.pipeline.driver.attach.attach import attach

        return attach
    if name == "load":
        from tangentscope.pipeline.driver.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
