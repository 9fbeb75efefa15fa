"""Loading large libraries."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Load libraries in this block without collecting garbage.

    They make hundreds of thousands of objects, which stay: looking through those over and over while they were being
    made took a quarter of the time of loading torch and Ray.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()
