"""Memory that was let go is taken again, and no more is kept than was ever in use."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probes.kernels.stores import Spare

HERE = torch.empty(0)


def taken(spare: Spare, size: int) -> torch.Tensor:
    return spare.take(size, HERE, torch.float32)


@pytest.mark.parametrize(("size", "again"), [(100, True), (90, True), (70, False), (101, False)])
def test_a_block_of_like_size_is_taken_again(size: int, again: bool):
    spare = Spare()
    first = taken(spare, 100)
    spare.give(first)
    second = taken(spare, size)
    assert len(second) >= size
    assert (second is first) == again


@given(st.lists(st.one_of(st.integers(1, 60), st.just(0)), max_size=40))
def test_no_more_is_held_than_was_in_use(sizes: list[int]):
    """Zeros give back what was taken first; blocks are held while anybody can reach them."""
    spare, in_use, most = Spare(), list[torch.Tensor](), 0
    for size in sizes:
        if size:
            in_use.append(taken(spare, size))
        elif in_use:
            spare.give(in_use.pop(0))
        most = max(most, sum(map(len, in_use)))
        assert len({block.data_ptr() for block in in_use}) == len(in_use)
        assert sum(map(len, in_use)) + sum(map(len, spare._blocks)) <= most


FAULTS = """
import resource, sys
import torch
from probes.kernels.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def touched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(touched() for _ in range(5)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc's")
def test_freed_memory_stays_with_the_process():
    """Of 40 MB, more than glibc keeps by itself: pages are asked for again, or they are there."""

    def pages(how: str) -> int:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)

    assert pages("kept") < 100 < pages("given back")
