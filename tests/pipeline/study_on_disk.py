"""A small real study on disk: the quickstart's plan with small overrides, and made-up rows as the pipeline has them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tangentscope.pipeline.store import layout, run_files, tables
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.snapshots import seal_snapshot
from tangentscope.pipeline.study.plan import study_plan
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import Study, read_study
from tangentscope.studies import shipped

Row = dict[str, Any]

START = 1_750_000_000.0
SMALL = (
    "task.train_size=64",
    "task.test_size=32",
    "grid.model.width=[3, 5]",
    "train={epochs: 2, batch_size: 32}",
    "probes.schedule={at: [1, 2]}",
    "probes.kernel.size=4",
)


@cache
def small_study(*overrides: str) -> tuple[Study, list[Run]]:
    study = read_study(shipped()["quickstart"], (*SMALL, *overrides))
    return study, make_runs(study, None, "quickstart.yaml")


@cache
def small_plan(*overrides: str) -> Row:
    return study_plan(*small_study(*overrides), launch=1).to_json()


def checksum(step: int, attempt: int = 1) -> str:
    return f"{step:08x}{attempt:08x}"


def measurement_rows(plan: Row, run: Row, step: int, attempt: int = 1, **changes: Any) -> list[Row]:
    """One row per planned probe and variable on a snapshot."""
    probes = {probe["probe"]: probe for probe in plan["probes"]}
    about = {"run": run["run"], "attempt": attempt, "step": step, "epoch": step / run["epoch_steps"]}
    about |= {"checksum": checksum(step, attempt), "state": "measured", "cause": None, "recorded_at": START + step}
    about |= {"probe_seconds": 0.1, "lag_seconds": 0.5, "clipped_mass": 0.0, "peak_memory": 10**8, "stderr": None}
    return [
        about
        | {key: probes[probe][key] for key in ("probe", "split", "outputs", "draws", "size")}
        | {"variable": variable, "version": plan["versions"][variable]}
        | {"value": value_of(step, attempt, place), "draw_values": [value_of(step, attempt, place)]}
        | changes
        for probe in run["probes"]
        for place, variable in enumerate(probes[probe]["variables"])
    ]


def value_of(step: int, attempt: int, place: int) -> float:
    return step + attempt / 10 + place / 100


def rewrite_measurements(storage: Storage, plan: Row, change: Callable[[Row], Row | None]) -> None:
    """Put every planned measurement on storage anew as `change` makes it; None leaves it out."""
    for part in tables.part_names(storage, "measurements"):
        storage.remove(part)
    rows = [row for run in plan["runs"] for step in run["schedule"] for row in measurement_rows(plan, run, step)]
    tables.write_part(storage, "measurements", [row for row in map(change, rows) if row is not None], "hub")


def put(study: tuple[Storage, Row], step: int, attempt: int = 1, **changes: Any) -> None:
    """Measurements of the first run as one part."""
    storage, plan = study
    rows = measurement_rows(plan, plan["runs"][0], step, attempt, **changes)
    tables.write_part(storage, "measurements", rows, "hub")


def history_rows(run: Row, step: int, attempt: int = 1, **changes: Any) -> list[Row]:
    about = {"run": run["run"], "attempt": attempt, "step": step, "epoch": step / run["epoch_steps"]}
    return [
        about | {"split": split, "variable": variable, "value": 1 / (1 + step), "recorded_at": START + step} | changes
        for split in ("train", "test")
        for variable in ("loss", run["score"])
    ]


def spectrum_rows(run: Row, step: int, attempt: int = 1) -> list[Row]:
    about = {"run": run["run"], "attempt": attempt, "step": step, "epoch": step / run["epoch_steps"]}
    about |= {"checksum": checksum(step, attempt), "split": "train", "outputs": "full"}
    return [about | {"probe": probe, "draw": 0, "eigenvalues": [3.0, 1.0, 0.0]} for probe in run["probes"]]


def profile_rows(run: Row, step: int, attempt: int = 1, **changes: Any) -> list[Row]:
    about = spectrum_rows(run, step, attempt)
    numbers = {
        "variable": "projection_factors",
        "version": 1,
        "values": [0.5, float(step)],
        "recorded_at": START + step,
    }
    return [{key: value for key, value in row.items() if key != "eigenvalues"} | numbers | changes for row in about]


def snapshot_row(run: Row, step: int, attempt: int = 1) -> Row:
    about = {"run": run["run"], "attempt": attempt, "step": step, "epoch": step / run["epoch_steps"]}
    about |= {"checksum": checksum(step, attempt), "bytes": 100, "taken_at": START + step}
    return about | {"copy_seconds": 1e-3, "wait_seconds": 0.0, "write_seconds": 1e-2}


def outcome(state: str = "finished", cause: str | None = None) -> Row:
    costs = {"training_seconds": 40.0, "evaluate_seconds": 6.0, "copy_seconds": 0.05, "wait_seconds": 0.2}
    costs |= {"checkpoint_seconds": 0.3, "checkpoints": 3, "peak_memory": 7 * 10**8, "steps": 4, "snapshots": 4}
    about = {"state": state, "cause": cause, "attempt": 1, "started_at": START, "ended_at": START + 55, "seconds": 55.0}
    return about | costs | {"device": "cpu", "host": "node", "workers": 1}


def replay(storage: Storage, run: str, attempt: int, after_step: int) -> None:
    storage.write_json(f"runs/{run}/replays/{attempt:04d}.json", {"after_step": after_step})


def write_plan(root: Path, *overrides: str) -> tuple[Storage, Row]:
    """A study of which nothing has been done yet."""
    storage, plan = Storage.at(root), small_plan(*overrides)
    storage.write_json(layout.PLAN, plan)
    storage.write(layout.STUDY, b"name: quickstart\n")
    provenance = {"versions": {"torch": "2.14.1"}, "git_commit": "0123abcd" * 5, "git_dirty": False, "command": "run"}
    provenance |= {"repository": {"root": "/home/me/mine", "commit": "4567cdef" * 5, "dirty": False}}
    machine = {"host": "node", "platform": "Linux", "processor": "x", "cores": 2, "memory_bytes": 16e9, "gpus": []}
    storage.write_json(layout.PROVENANCE, provenance | {"machine": machine, "started_at": START, "data": {}})
    return storage, plan


def write_study(root: Path, *overrides: str) -> tuple[Storage, Row]:
    """A study whose runs have all finished and been measured."""
    storage, plan = write_plan(root, *overrides)
    for run in plan["runs"]:
        for step in run["schedule"]:
            tables.write_part(storage, "measurements", measurement_rows(plan, run, step), "hub")
            tables.write_part(storage, "spectra", spectrum_rows(run, step), "hub")
            tables.write_part(storage, "profiles", profile_rows(run, step), "hub")
            tables.write_part(storage, "history", history_rows(run, step), run["run"])
            tables.write_part(storage, "snapshots", [snapshot_row(run, step)], run["run"])
            name = SnapshotName(step, 1, checksum(step))
            storage.write(
                run_files.snapshot(run["run"], name), seal_snapshot(run["run"], name, {}, {"taken_at": START + step})
            )
        storage.write_json(f"runs/{run['run']}/attempts/0001.json", {"attempt": 1, "started_at": START})
        storage.write_json(run_files.outcome(run["run"]), outcome())
    return storage, plan
