"""A run long enough to be hit in the middle, and what must be true of it afterwards."""

import numpy as np
from small_study import SMALL, keys, planned_keys

from tangentscope import pipeline
from tangentscope.pipeline.store import layout, tables

# Long enough to be hit in the middle, with a checkpoint every few hundred steps; with comparisons, for which snapshots
# have to be there that are not to be kept.
LONG = {
    "train": {"epochs": 500, "batch_size": 50},
    "grid": {"model.width": [16]},
    "probes": {
        **SMALL["probes"],
        "schedule": {"every": {"epochs": 10}},
        "variables": [
            "trace",
            "entropy",
            "label_alignment",
            "kernel_distance",
            "kernel_velocity",
            "kinetic_energy",
            "projection_factors",
        ],
        "keep": "ends",
    },
    "resources": {"train": {"checkpoint_seconds": 0.2}},
}


def the_run(one) -> str:
    return one.store.runs[0].id


def started(one) -> bool:
    return one.storage.exists(layout.PLAN) and one.storage.exists(f"runs/{the_run(one)}/attempts/0001.json")


def half_trained(one) -> bool:
    """A checkpoint is on storage, training goes on, and something has been measured."""
    return (
        started(one)
        and bool(one.storage.list(f"runs/{the_run(one)}/checkpoints"))
        and bool(tables.part_names(one.storage, "measurements"))
    )


def same_numbers(one, other) -> None:
    """All planned keys, each once, with bitwise the values of the other launch; the same loss and score too."""
    for table, key in (("measurements", ["run", "step", "probe", "variable"]), ("history", tables.KEYS["history"])):
        frames = [pipeline.load(each.out, table).set_index(key)["value"].sort_index() for each in (one, other)]
        assert frames[0].index.tolist() == frames[1].index.tolist()
        np.testing.assert_array_equal(frames[0].to_numpy(), frames[1].to_numpy())
    assert set(keys(pipeline.load(one.out))) == planned_keys(one.store)
    profiles = [pipeline.load(each.out, "profiles").set_index(tables.KEYS["profiles"]) for each in (one, other)]
    numbers = [dict(zip(frame.index, map(tuple, frame["values"]), strict=True)) for frame in profiles]
    assert numbers[0] == numbers[1]
