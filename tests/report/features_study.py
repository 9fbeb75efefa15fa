"""Made-up studies of features, whose numbers and profiles are given as functions."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_study import EPOCH_STEPS, START, STEPS, Row, a_run, write_study

from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store import tables

Curve = Callable[[Row, int], float]
Profile = Callable[[Row, int], np.ndarray]
CLASSES, P = 4, 12


def run_of(seed: int = 0, outputs: int = CLASSES, **fields: Any) -> Row:
    """A run whose varied fields, written with "__" for the dot, stand in its config too."""
    varied = {key.replace("__", "."): value for key, value in fields.items()}
    run = a_run(seed, **varied)
    config = {kind: dict(part) if isinstance(part, dict) else part for kind, part in run["config"].items()}
    for key, value in varied.items():
        part, _, field = key.partition(".")
        config[part][field] = value
    return run | {"config": config, "data": run["data"] | {"outputs": outputs}, "probes": ["features"]}


def study(
    root: Path,
    runs: list[Row],
    numbers: Mapping[str, Curve],
    profiles: Mapping[str, Profile] | None = None,
    loss: Curve = lambda run, step: 1.0,
    score: Curve = lambda run, step: 0.5,
    train_score: Curve | None = None,
    entropy: Curve | None = None,
) -> View:
    """With these curves of features, and losses and scores on test, which are of train too unless given."""
    shape = {"outputs": "features", "draws": 1, "size": 200}
    named = [*numbers, *(profiles or {})]
    probes = [{"probe": "features", "split": "both", "seed": 0, "held_out": 100, "variables": named, **shape}]
    if entropy is not None:
        kernel = {"outputs": "full", "draws": 1, "size": 50, "seed": 0, "variables": ["entropy"]}
        probes.append({"probe": "kernel", "split": "test", **kernel})
        runs = [run | {"probes": ["features", "kernel"]} for run in runs]
    storage = write_study(root, runs, probes=probes, until={run["name"]: -1 for run in runs})
    measured, listed, history = [], [], []
    for run in runs:
        for step in run["schedule"]:
            at = {"run": run["run"], "attempt": 1, "step": step, "epoch": step / EPOCH_STEPS, "recorded_at": START}
            of = at | {"checksum": "c", "probe": "features", "split": "both", "version": 1, "outputs": "features"}
            row = of | {"draws": 1, "size": 200, "state": "measured", "stderr": None}
            measured += [row | {"variable": name, "value": curve(run, step)} for name, curve in numbers.items()]
            for name, values in (profiles or {}).items():
                measured.append(row | {"variable": name, "value": None, "length": P})
                listed.append(of | {"draw": 0, "variable": name, "values": values(run, step).tolist()})
            if entropy is not None:
                about = {"probe": "kernel", "split": "test", "outputs": "full", "size": 50, "variable": "entropy"}
                measured.append(row | about | {"value": entropy(run, step)})
            for split in ("train", "test"):
                scored = train_score if split == "train" and train_score else score
                for name, curve in (("loss", loss), ("accuracy", scored)):
                    history.append(at | {"split": split, "variable": name, "value": curve(run, step)})
    tables.write_part(storage, "measurements", measured, "probe")
    tables.write_part(storage, "profiles", listed, "probe")
    tables.write_part(storage, "history", history, "train")
    return View(storage)


def falling(start: float, end: float) -> Curve:
    """From one number to another, evenly in the steps' logarithm."""
    return lambda run, step: start + (end - start) * float(np.log1p(step) / np.log1p(STEPS))
