"""Memory that is freed and asked for again costs no fresh pages; in a process of its own, as the setting stays."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from tangentscope.pipeline.system import memory
def again():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(3 * 2**20).add(1).max()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
again()
before = again()
memory.keep_freed()
again()
print(before, again())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_freed_memory_is_used_again() -> None:
    # glibc's own bound moves with what a process does; one that is set does not.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=env)
    by_default, kept = map(int, done.stdout.split())
    assert kept < by_default / 10
