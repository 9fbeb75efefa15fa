"""Memory that was let go is taken again: clearing new pages takes as long as much of the work on them."""

import ctypes
import os
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor

KEPT = 2**27
"""Bytes of freed memory that a process may keep; of single blocks half of it."""


class Spare:
    """Blocks that a sweep has let go: one of like size finds its pages there.

    What is kept and what is in use are together never more than what was in use at the most.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._blocks: list[Tensor] = []
        self._in_use = self._most = 0  # numbers

    def take(self, size: int, like: Tensor) -> Tensor:
        """A block of ``size`` numbers or up to a quarter more, where ``like`` lies; anything may stand in it."""
        fitting = [number for number, block in enumerate(self._blocks) if size <= len(block) <= 5 * size // 4]
        if fitting:
            block = self._blocks.pop(fitting[0])
        else:
            while self._blocks and self._in_use + size + sum(map(len, self._blocks)) > self._most:
                del self._blocks[0]
            block = like.new_empty(size, dtype=self.dtype)
        self._in_use += len(block)
        self._most = max(self._most, self._in_use)
        return block

    def give(self, block: Tensor) -> None:
        """What ``take`` gave, if nobody needs it any more."""
        self._in_use -= len(block)
        self._blocks.append(block)


@cache
def keep_freed_memory() -> None:
    """Let this process keep up to 128 MB of what is freed, where its memory comes from glibc; users' settings stand.

    By default large blocks go back to the system as soon as they are free, and every page of the next one is cleared
    anew: a tenth of a convolutional network's kernel. The numbers of the two settings are those of its malloc.h.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    trim_threshold, mmap_threshold = -1, -3
    with suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, KEPT // 2)
        mallopt(trim_threshold, KEPT)
