"""Memory of this process: how much it took, and what it does with what it frees."""

import ctypes
import resource
import sys
from contextlib import suppress

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's M_MMAP_THRESHOLD and M_TRIM_THRESHOLD
_BYTES = 2**28


def keep_freed() -> None:
    """Let this process keep what it frees, up to a quarter of a gigabyte, instead of giving it back at once.

    Kernels of the same size are made and freed over and over; pages fresh from the system took a sixth of the time of
    measuring one. Where the C library is not glibc nothing changes.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _BYTES)
        library.mallopt(_TRIM_THRESHOLD, _BYTES)


def peak_memory() -> int:
    """The most memory this process has held so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
