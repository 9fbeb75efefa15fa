"""Memory that was let go is taken again, and no more is kept than was ever in use."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tangentscope.probes import tangent_kernel
from tangentscope.probes.kernels.engine import block_side
from tangentscope.probes.kernels.engine.buffer_pool import Spare

HERE = torch.empty(0)


def taken(spare: Spare, size: int) -> torch.Tensor:
    return spare.take(size, HERE)


@pytest.mark.parametrize(("size", "again"), [(100, True), (90, True), (70, False), (101, False)])
def test_a_block_of_like_size_is_taken_again(size: int, again: bool):
    spare = Spare(torch.float32)
    first = taken(spare, 100)
    spare.give(first)
    second = taken(spare, size)
    assert len(second) >= size
    assert (second is first) == again


def test_what_does_not_fit_stays_while_there_is_room():
    spare = Spare(torch.float32)
    large, small = taken(spare, 100), taken(spare, 50)
    spare.give(large)
    spare.give(small)
    taken(spare, 60)  # neither fits, and both beside it would be too much
    assert taken(spare, 50) is small


@given(st.lists(st.one_of(st.integers(1, 60), st.just(0)), max_size=40))
def test_no_more_is_held_than_was_in_use(sizes: list[int]):
    """Zeros give back what was taken first; blocks are held while anybody can reach them."""
    spare, in_use, most = Spare(torch.float32), list[torch.Tensor](), 0
    for size in sizes:
        if size:
            in_use.append(taken(spare, size))
        elif in_use:
            spare.give(in_use.pop(0))
        most = max(most, sum(map(len, in_use)))
        assert len({block.data_ptr() for block in in_use}) == len(in_use)
        assert sum(map(len, in_use)) + sum(map(len, spare._blocks)) <= most


def test_layers_find_the_room_of_those_before(monkeypatch: pytest.MonkeyPatch):
    """Swept one by one, five layers of one size need two blocks at most."""
    monkeypatch.setattr(block_side, "MERGED_BYTES", 0)
    blocks, take = [], Spare.take
    monkeypatch.setattr(Spare, "take", lambda spare, *about: blocks.append(take(spare, *about)) or blocks[-1])
    model = nn.Sequential(*(layer for _ in range(5) for layer in (nn.Linear(8, 8), nn.Tanh())), nn.Linear(8, 3))
    tangent_kernel(model, torch.randn(4, 8))
    assert len(blocks) == 5
    assert len({id(block) for block in blocks}) <= 2


# Each setting in a process of its own, all of them forks of one that has imported everything.
FAULTS = """
import os
import resource
import torch
from tangentscope.probes import tangent_kernel
def touched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def pages(**settings):
    if not (child := os.fork()):
        os.environ.update(settings)
        tangent_kernel(torch.nn.Linear(2, 2), torch.randn(2, 2))
        print(min(touched() for _ in range(5)), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
pages()
pages(MALLOC_MMAP_THRESHOLD_="262144")
pages(MALLOC_TRIM_THRESHOLD_="262144")
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_freed_memory_stays_with_the_process_unless_its_user_says_otherwise():
    """Of 40 MB, more than glibc keeps by itself: pages are there after a kernel, or they are asked for again."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    kept, asked_for_blocks, asked_for_trimming = map(int, done.stdout.split())
    assert kept < 100
    assert asked_for_blocks > 1000
    assert asked_for_trimming > 1000
