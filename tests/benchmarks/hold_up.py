"""How long a snapshot holds training up, by the size of the network.

    python tests/benchmarks/hold_up.py [--sizes 1e5 1e6 47e6 350e6] [--snapshots 10] [--seconds 0.5]

Trains for about `--seconds` between two snapshots (products of matrices on one thread), with the copy and the writing
of a snapshot beside it and without, in turns. Prints for each size, with the copy made at once and made while the next
batch is computed: the plain copy into memory that has been written before, what training waited for the copy, also as
a share of training time, and for storage, and the steps a second beside a snapshot relative to those without.
Not a test: times depend on the machine and its other work.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.system import memory
from tangentscope.pipeline.training.recorder import Recorder

_SIDE = 500  # of the matrices that training multiplies


class Network(nn.Module):
    """So many bytes of parameters, in twenty tensors."""

    def __init__(self, size: float) -> None:
        super().__init__()
        each = max(1, int(size / 4 / 20))
        self.parts = nn.ParameterList([nn.Parameter(torch.rand(each)) for _ in range(20)])


def train(seconds: float) -> int:
    """Steps made in about so many seconds."""
    matrix, steps, begun = torch.rand(_SIDE, _SIDE), 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        matrix @ matrix
        steps += 1
    return steps


def copy_seconds(network: Network) -> float:
    """Median seconds of a copy of all parameters into memory that is there already."""
    state = [parameter.detach() for parameter in network.parts]
    there = [tensor.clone() for tensor in state]
    times = []
    for _ in range(11):
        begun = time.perf_counter()
        for to, tensor in zip(there, state, strict=True):
            to.copy_(tensor)
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def measure(size: float, snapshots: int, seconds: float, overlap: bool) -> str:
    """One line of the table."""
    network = Network(size)
    plain = copy_seconds(network)
    alone = beside = 0
    with tempfile.TemporaryDirectory() as directory:
        launch = Launch(Storage.at(Path(directory)), 1)
        with Recorder(launch, "0" * 12, 1, 1, 0, network) as recorder:
            for step in range(snapshots):
                recorder.snapshot(step, network, overlap)
                beside += train(seconds)
                recorder.settle()
                while recorder._free.qsize() < 2:  # until its file is written, so that nothing disturbs what follows
                    time.sleep(0.01)
                alone += train(seconds)
        copies = np.array(recorder.copy_seconds[2:])  # the first into each buffer meets fresh memory
    return (
        f"{size / 1e6:8.1f} MB  {'overlapping' if overlap else 'at once':<12} plain copy {plain * 1e3:8.3f} ms  "
        f"held up {np.median(copies) * 1e3:8.3f} ms ({copies.min() * 1e3:.3f} … {copies.max() * 1e3:.3f}), "
        f"{100 * copies.mean() / seconds:6.3f} % of training  waited for storage {recorder.wait_seconds * 1e3:8.3f} ms "
        f"in all  steps a second beside copy and write / alone {beside / alone:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e5, 1e6, 47e6, 350e6])
    parser.add_argument("--snapshots", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    memory.keep_freed()
    for size in given.sizes:
        for overlap in (False, True):
            print(measure(size, given.snapshots, given.seconds, overlap), flush=True)


if __name__ == "__main__":
    main()
