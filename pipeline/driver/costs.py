"""What a study will cost, from a short calibration on this host: seconds a step, an evaluation and a measurement.

A few of the study's networks, spread over their sizes, are built, trained for some steps, evaluated and probed, on a
part of the points and draws where all of them would take long; what lies between them in size is interpolated.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tangentscope.pipeline.config.features import MEASURED
from tangentscope.pipeline.config.train import Reinforcement
from tangentscope.pipeline.driver.costs_of_games import rates_of_playing
from tangentscope.pipeline.probing.features import measure_features
from tangentscope.pipeline.probing.networks import observed
from tangentscope.pipeline.probing.points import draw_feature_points, draw_points
from tangentscope.pipeline.store.points import inputs_of
from tangentscope.pipeline.store.sealed import checksum
from tangentscope.pipeline.store.snapshots import SnapshotBuffer, plain_state
from tangentscope.pipeline.study.runs import Probe, Run
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system.memory import peak_memory
from tangentscope.pipeline.training.learner import initialise, outputs_of, training_of
from tangentscope.pipeline.training.loop import evaluate, evaluated
from tangentscope.probes import VARIABLES, measure
from tangentscope.tasks import Split

_SAMPLES = 5  # networks calibrated at most
_SECONDS = 0.2  # spent on each quantity, one repetition at least
_LONG = 2.0  # seconds of a call beyond which the first one serves: what it sets up no longer counts
_LEAST_POINTS = 64  # of an evaluation
_WIDE = 1000  # features
# A launch starts a chain of processes that each import torch and Ray, some of them side by side where there are cores.
# Start-up and closing together took 14 times one such import on two cores; the split between the chain and what can be
# shared out is a guess.
_CHAIN, _SHARED = 6, 16
# What keeps a core busy as the other half of a launch does: products of matrices, without end.
_LOAD = "import numpy; a = numpy.ones((300, 300))\nwhile True: a @ a"
# What a process of Ray holds before it does anything, beyond what this one does: its core worker and Ray Train.
_RAY_BYTES = 150 * 2**20


@dataclass(frozen=True)
class Rates:
    """Seconds on this host for one network: a step, an evaluation on both splits, a snapshot, all its probes."""

    parameters: int
    step: float
    evaluation: float
    snapshot: float
    probe: float


@dataclass(frozen=True)
class Estimate:
    """What a study is expected to cost: seconds of wall time in parts, bytes kept, bytes of memory a process."""

    start_and_end: float
    training: float
    probing: float
    wall: float
    snapshot_bytes: int
    table_bytes: int
    trainer_memory: int
    prober_memory: int


def estimate(study: Study, runs: list[Run], start: float | None = None) -> Estimate:
    """Calibrate on this host and add up. Takes a few seconds, longer where one measurement does.

    Args:
        study: The study, for its resources and what it keeps.
        runs: Its runs.
        start: Seconds that one process takes to import what workers import; measured if not given.
    """
    start = _import_seconds() if start is None else start
    pools, cores = study.resources, os.cpu_count() or 1
    torch.set_num_threads(pools.train.cpu)
    workers = pools.train.groups * pools.train.workers * pools.train.cpu + pools.probe.actors * pools.probe.cpu
    with _neighbours(min(workers, cores) - 1):
        rates, trainer_memory = _calibrate(runs)
    prober_memory = peak_memory()
    training, probing, snapshot_bytes, table_bytes = 0.0, 0.0, 0, 0
    for run in runs:
        rate = _interpolate(rates, run.parameters)
        count = len(run.schedule)
        training += run.steps * rate.step + len(run.evaluations) * rate.evaluation + len(run.snapshots) * rate.snapshot
        probing += count * rate.probe
        more = len(run.snapshots) - count  # which are kept for a later run
        kept = more + {"all": count, "ends": 2, "none": 0}[study.probes.keep]
        snapshot_bytes += kept * run.snapshot_bytes
        # A spectrum, and profiles that are as long at most.
        lists = 1 + sum(VARIABLES[name].kind == "profile" for name in study.probes.variables)
        table_bytes += count * sum(
            8 * lists * p.kernel.draws * side(run, p) + 300 * len(p.variables) for p in run.probes
        )
        table_bytes += count * _bytes_of_features(run)
    # Both pools work at the same time; what is measured afterwards has the workers' place too.
    busy = training / pools.train.groups
    busy += max(0.0, probing - busy * pools.probe.actors) / (pools.probe.actors + pools.successors)
    around = (_CHAIN + _SHARED / cores) * start
    memory = (trainer_memory + _RAY_BYTES, prober_memory + _RAY_BYTES)
    return Estimate(around, training, probing, around + busy, snapshot_bytes, table_bytes, *memory)


@contextmanager
def _neighbours(count: int) -> Iterator[None]:
    """Keep `count` other cores busy: training and probing share caches and clocks when they run side by side."""
    command = [sys.executable, "-c", _LOAD]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    busy = [subprocess.Popen(command, env=environment) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def side(run: Run, probe: Probe) -> int:
    """Side of a probe's kernel of a run: N·O for full output treatment, N otherwise."""
    return probe.kernel.size * (run.outputs(probe) if probe.kernel.outputs == "full" else 1)


def _calibrate(runs: list[Run]) -> tuple[list[Rates], int]:
    by_size = {run.parameters: run for run in runs}
    sizes = sorted(by_size)
    chosen = sorted({sizes[round(k)] for k in np.linspace(0, len(sizes) - 1, _SAMPLES)})
    trained = [_rates_of_training(by_size[size]) for size in chosen]
    trainer_memory = peak_memory()
    probes = [_rate_of_probes(by_size[size]) for size in chosen]
    return [Rates(size, *t, p) for size, t, p in zip(chosen, trained, probes, strict=True)], trainer_memory


def _rates_of_training(run: Run) -> tuple[float, float, float]:
    what = training_of(run.planned())
    module = initialise(what, run.data, torch.device("cpu"))
    if isinstance(run.train, Reinforcement):
        return *rates_of_playing(run.task, run.train, module), _snapshot_rate(module)
    optimiser = what.optimiser.build(module.parameters())
    places = torch.arange(min(run.batch_size, len(run.data.train)))

    def step() -> None:
        inputs, targets = run.data.train.batch(places)
        optimiser.zero_grad(set_to_none=True)
        (what.task.loss(outputs_of(module, inputs, what.precision), targets).sum() / len(targets)).backward()
        optimiser.step()

    def evaluation(split: Split) -> float:
        def some(count: int) -> None:
            evaluate(what.task, module, split.take(torch.arange(count)), what.precision)

        return _seconds_of_all(some, len(split), _LEAST_POINTS)

    return _seconds(step), sum(map(evaluation, evaluated(what, run.data).values())), _snapshot_rate(module)


def _snapshot_rate(module: nn.Module) -> float:
    state = plain_state(module)
    buffer = SnapshotBuffer(state)

    def snapshot() -> None:
        buffer.copy_from(state)
        checksum(buffer.tensors)

    return _seconds(snapshot)


def _rate_of_probes(run: Run) -> float:
    network = initialise(training_of(run.planned()), run.data, torch.device("cpu")).eval()
    total = 0.0
    for probe in run.probes:
        module = observed(run.task, network, probe.part)
        points = draw_points(getattr(run.data, probe.split), probe.kernel)
        measuring = partial(_measure, run, module, probe, points)
        total += _seconds_of_all(measuring, probe.kernel.draws)
    return total + (_seconds_of_features(run, network) if run.features else 0.0)


def _seconds_of_features(run: Run, network: nn.Module) -> float:
    """In proportion from fewer points to learn from and held out, where all take long."""
    assert run.features is not None
    points = run.features.points
    memory = run.study.resources.probe.memory_bytes

    def some(count: int) -> None:
        fewer = {"train": count, "test": max(1, count * points.test // points.train)}
        drawn = draw_feature_points(run.data.train, run.data.test, points.model_copy(update=fewer))
        measure_features(run.task.observed(network), drawn, inputs_of, None, memory, variables=points.variables)

    return _seconds_of_all(some, points.train, _LEAST_POINTS)


def _bytes_of_features(run: Run) -> int:
    """Of a measurement's rows, if no layer is wider than a thousand features."""
    names = () if run.features is None else run.features.points.variables
    return sum(300 + 8 * _WIDE * (MEASURED[name].kind == "profile") for name in names)


def _measure(run: Run, module: nn.Module, probe: Probe, points: dict[str, Tensor], draws: int) -> None:
    measure(
        module,
        inputs_of(points),
        points["draws"][:draws],
        probe.kernel.outputs,
        probe.variables,
        targets=points["targets"],
        loss=run.task.observed_loss,
        initial=module,  # what is compared with costs as much, whatever it is
        previous=module,
        step=1,
        previous_step=0,
        memory_bytes=run.study.resources.probe.memory_bytes,
    )


def _seconds(action: Callable[[], object]) -> float:
    """Median seconds of a call, the first one apart."""
    if (first := _timed(action)) > _LONG:
        return first
    times: list[float] = []
    while sum(times) < _SECONDS:
        times.append(_timed(action))
    return float(np.median(times))


def _seconds_of_all(action: Callable[[int], None], count: int, least: int = 1) -> float:
    """Seconds of ``action(count)``, in proportion from a smaller number where that takes long enough to tell."""
    some = min(least, count)
    while some < count:
        if (spent := _seconds(lambda some=some: action(some))) > _SECONDS:
            return spent * count / some
        some = min(4 * some, count)
    return _seconds(lambda: action(count))


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _interpolate(rates: list[Rates], parameters: int) -> Rates:
    sizes = np.log([rate.parameters for rate in rates])

    def at(name: str) -> float:
        values = np.log([max(getattr(rate, name), 1e-9) for rate in rates])
        return float(np.exp(np.interp(np.log(parameters), sizes, values)))

    return Rates(parameters, at("step"), at("evaluation"), at("snapshot"), at("probe"))


def _import_seconds() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import ray, torch"], check=True, capture_output=True)
    return time.perf_counter() - begun
