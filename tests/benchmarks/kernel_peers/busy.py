"""Other work beside what is measured: processes that multiply matrices for as long as this one wants them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kernel_peers.environments import Environment
from kernel_peers.processes import fresh_process

WORK = """
import os
import numpy as np
a, parent = np.random.default_rng(0).random((1000, 1000), np.float32), os.getppid()
while os.getppid() == parent:  # one whose parent was killed ends by itself
    a @ a
"""


@contextmanager
def others(count: int) -> Iterator[list[int]]:
    """So many, of one thread each, by their process numbers; and none of them afterwards."""
    _, surroundings = fresh_process("", threads=1, environment=Environment())
    started = [subprocess.Popen([sys.executable, "-c", WORK], **surroundings) for _ in range(count)]
    try:
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.kill()
            each.wait()
