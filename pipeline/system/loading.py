"""Making hundreds of thousands of objects at once, as loading large libraries does."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage in this block.

    Libraries make hundreds of thousands of objects, which stay: looking through those over and over while they were
    being made took a quarter of the time of loading torch and Ray, and a fifth of that of sending points to MLflow.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()
