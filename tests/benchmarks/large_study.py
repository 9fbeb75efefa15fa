"""A made-up study of any size on disk, with all the files that a real one leaves behind, in seconds rather than days.

Runs and plan are real (``studies/quickstart.yaml`` over a grid); every value is a smooth curve with noise.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tangentscope.pipeline.store import layout, manifest, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.manifest import Manifest
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.points import store_points
from tangentscope.pipeline.study.runs import make_runs
from tangentscope.pipeline.study.spec import Study, read_study
from tangentscope.studies import shipped

START = 1_750_000_000.0
VARIABLES = ("trace", "entropy", "effective_rank", "condition_number", "participation_ratio", "largest_eigenvalue")
_CHECKSUM = "0123456789abcdef"
_RATES = (1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3)
_WIDTHS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
_PART = 100  # runs whose rows stand in one part of a table


def large_study(
    root: Path,
    runs: int,
    steps: int = 42,
    variables: tuple[str, ...] = VARIABLES,
    draws: int = 1,
    ended: bool = True,
    begun: int | None = None,
) -> tuple[Storage, dict[str, Any]]:
    """Write a study of `runs` runs, each measured at `steps` steps on two splits: its storage and plan.

    Args:
        root: Where it is put.
        runs: How many: of 40 networks, with as many seeds as that takes.
        steps: Snapshots of a run.
        variables: Of each kernel.
        draws: Kernels at a step.
        ended: Whether training has; else nothing says how it ended.
        begun: Of how many runs there is anything; of all by default. With a multiple of 40 runs, the study's file that
            lies there gives the same plan, and `run` goes on with it.
    """
    study = _study(runs, steps, variables, draws)
    planned = make_runs(study, None)[:runs]
    storage, plan = Storage.at(root), study_plan(study, planned, launch=1).to_json()
    root.mkdir(parents=True, exist_ok=True)
    layout.identify(storage)
    identity = layout.store_id(storage)
    (root / layout.PLAN).write_text(json.dumps(plan, indent=1, sort_keys=True))
    (root / layout.STUDY).write_text(study.text())
    store_points(storage, planned)
    (root / layout.PROVENANCE).write_text(json.dumps({"versions": {}, "git_commit": None, "started_at": START}))
    there = plan["runs"][:begun]
    for order, run in enumerate(there):
        _write_files(root / "runs" / run["run"], run, START + 60 * order, ended)
    for first in range(0, len(there), _PART):
        some = there[first : first + _PART]
        for table, rows in _rows(plan, some, np.random.default_rng(first)):
            empty = Manifest(table, f"made-{first:06d}", identity)
            empty.with_part(tables.publish_part(storage, empty, rows), manifest.tally(table, rows)).write(storage)
    return storage, plan


def _study(runs: int, steps: int, variables: tuple[str, ...], draws: int) -> Study:
    grid, seeds = {"model.width": _WIDTHS, "optimiser.lr": _RATES}, -(-runs // (len(_WIDTHS) * len(_RATES)))
    overrides = [f"grid={json.dumps(grid)}", f"seeds={seeds}", "task.train_size=500", "task.test_size=100"]
    overrides += [f"name=large-{runs}", f"probes.schedule={{at: {[7 * step for step in range(steps - 1)]}}}"]
    overrides += [f"train.epochs={7 * (steps - 1) / 5}", f"probes.variables=[{', '.join(variables)}]"]
    return read_study(shipped()["quickstart"], (*overrides, f"probes.kernel.draws={draws}"))


def _write_files(folder: Path, run: dict[str, Any], begun: float, ended: bool) -> None:
    for kind in ("attempts", "snapshots", "checkpoints"):
        (folder / kind).mkdir(parents=True)
    attempt = {"attempt": 1, "started_at": begun, "launch": 1, "resumed_at": 0}
    (folder / "attempts/0001.json").write_text(json.dumps(attempt))
    for step in run["schedule"]:
        freed = step not in (0, run["steps"])
        (folder / "snapshots" / SnapshotName(step, 1, _CHECKSUM, freed).file).write_bytes(b"")
    if ended:
        costs = {"training_seconds": 40.0, "evaluate_seconds": 6.0, "copy_seconds": 0.05, "wait_seconds": 0.2}
        costs |= {"peak_memory": 7 * 10**8, "steps": run["steps"], "snapshots": len(run["schedule"]), "seconds": 55.0}
        outcome = {"state": "finished", "cause": None, "attempt": 1, "started_at": begun, "ended_at": begun + 55}
        (folder / "outcome.json").write_text(json.dumps(outcome | costs))


def _rows(
    plan: dict[str, Any], runs: list[dict[str, Any]], random: np.random.Generator
) -> Iterator[tuple[str, pa.Table]]:
    """The rows of some runs, by table."""
    about = pd.DataFrame([(run["run"], step, step / run["epoch_steps"]) for run in runs for step in run["schedule"]])
    about = about.set_axis(["run", "step", "epoch"], axis=1).assign(attempt=1, checksum=_CHECKSUM)
    times = {"recorded_at": START + about["step"] / 10}
    probes = pd.DataFrame(plan["probes"])[["probe", "split", "outputs", "part", "draws", "size"]]
    splits = pd.DataFrame({"split": ["train", "test"]})
    losses = pd.DataFrame({"variable": ["loss", runs[0]["score"]]})
    yield "history", _table("history", about.assign(**times).merge(splits, "cross").merge(losses, "cross"), random)
    costs = {"bytes": 50_000, "copy_seconds": 1e-3, "wait_seconds": 0.0, "write_seconds": 1e-2}
    yield "snapshots", _table("snapshots", about.assign(**costs, taken_at=times["recorded_at"]), random)
    kernels = about.merge(probes, "cross")
    draws = kernels.merge(pd.DataFrame({"draw": range(plan["probes"][0]["draws"])}), "cross")
    spectrum = np.sort(random.random((len(draws), 20)))[:, ::-1]
    yield "spectra", _table("spectra", draws.assign(eigenvalues=list(spectrum)), random)
    versions = pd.DataFrame(list(plan["versions"].items()), columns=["variable", "version"])
    measured = kernels.merge(versions, "cross").assign(state="measured", probe_seconds=0.1, lag_seconds=0.5)
    measured = measured.assign(recorded_at=START + measured["step"] / 10, clipped_mass=0.0, peak_memory=10**8)
    yield "measurements", _table("measurements", measured, random)


def _table(name: str, frame: pd.DataFrame, random: np.random.Generator) -> pa.Table:
    schema = tables.SCHEMAS[name]
    if "value" in schema.names:
        value = 2 + np.exp(-frame["epoch"] / 5) + 0.01 * random.random(len(frame))
        frame = frame.assign(value=value)
    if "draw_values" in schema.names:
        frame = frame.assign(draw_values=frame["value"].map(lambda value: [value]))
    absent = {column: None for column in schema.names if column not in frame}
    return pa.Table.from_pandas(frame.assign(**absent), schema=schema, preserve_index=False)


if __name__ == "__main__":
    large_study(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), begun=int(sys.argv[4]))
