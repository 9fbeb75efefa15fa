"""Made-up studies whose entropy, trace and loss are given as functions, so that what claims say of them is known."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synthetic_study import EPOCH_STEPS, START, STEPS, Row, a_run, probe, write_study

from tangentscope.pipeline.report.claims import CLAIMS, Finding
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store import tables
from tangentscope.pipeline.store.files import Storage

SEEDS = 5
Curve = Callable[[Row, int], float | None]
Loss = Callable[[Row, str, int], float]


def networks(seeds: int = SEEDS, **varied: Sequence[Any]) -> list[Row]:
    """Runs over a grid of fields, written with "__" for the dot, e.g. ``model__width=[8, 32]``."""
    points: list[dict[str, Any]] = [{}]
    for field, values in varied.items():
        points = [{**point, field.replace("__", "."): value} for point in points for value in values]
    return [a_run(seed, **point) for point in points for seed in range(seeds)]


def falling(run: Row, split: str, step: int) -> float:
    """A loss that falls from e to 1/e, by half of that (in ln L) within the first hundred steps or so."""
    return math.exp(1 - 2 * min(1.0, math.log1p(step) / math.log1p(STEPS) / 0.9))


def study(
    root: Path,
    runs: list[Row],
    entropy: Curve = lambda run, step: 2.0,
    trace: Curve = lambda run, step: 100.0,
    loss: Loss = falling,
    stderr: float = 0.0,
    variables: Sequence[str] = ("trace", "entropy"),
    others: dict[str, Curve] | None = None,
    **how: Any,
) -> Storage:
    """A study with these curves on test and train alike; a curve's None drops the measurement."""
    named = {"entropy": entropy, "trace": trace, **(others or {})}
    probes = [probe(split, draws=5, variables=list(variables)) for split in ("train", "test")]
    storage = write_study(root, runs, probes=probes, until=dict.fromkeys((run["name"] for run in runs), -1), **how)
    measured, history = [], []
    for run in runs:
        for step in run["schedule"]:
            where = {"run": run["run"], "attempt": 1, "step": step, "epoch": step / EPOCH_STEPS, "recorded_at": START}
            for taken in probes:
                about = where | {key: taken[key] for key in ("probe", "split", "outputs", "draws", "size")}
                about |= {"checksum": "c", "version": 1, "stderr": stderr, "state": "measured"}
                values = {name: named[name](run, step) for name in variables}
                measured += [about | {"variable": name, "value": v} for name, v in values.items() if v is not None]
                lost = loss(run, taken["split"], step)
                history.append(where | {"split": taken["split"], "variable": "loss", "value": lost})
    tables.write_part(storage, "measurements", measured, "probe")
    tables.write_part(storage, "history", history, "train")
    return storage


def decided(storage: Storage, claim: str) -> list[Finding]:
    """What a study says to a claim."""
    return CLAIMS[claim](View(storage))
