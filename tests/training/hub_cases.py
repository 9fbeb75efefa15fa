"""A hub as a plain object on an event loop of this process, and a study of one run for it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gated_storage import GatedStorage
from training_cases import RUN

from tangentscope.pipeline.cluster.hub import Hub
from tangentscope.pipeline.probing.ledger import Job, compared_with
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.tables import Rows

NAMES = [SnapshotName(step, 1, f"{step:016x}") for step in (0, 4, 8)]


def publish_plan(storage: GatedStorage, keep: str = "all", **compares: list[str]) -> None:
    run = {"run": RUN, "name": "seed=0", "seed": 0, "varied": {}, "probes": ["p"], "schedule": [0, 4, 8]}
    run |= {"steps": 8, "epoch_steps": 4}
    run["config"] = {"task": {"name": "points"}, "model": {"name": "dense"}}
    probe = {
        "probe": "p",
        "split": "train",
        "outputs": "full",
        "draws": 1,
        "size": 5,
        "variables": ["trace", "entropy", *compares],
    }
    plan = {"study": "tests", "varied": [], "keep": keep, "runs": [run], "probes": [probe]}
    versions = dict.fromkeys(probe["variables"], 1)
    storage.write_json(layout.PLAN, plan | {"versions": versions, "compares": compares})


def three_snapshots(place: Path) -> GatedStorage:
    """A storage with a plan and all its snapshots."""
    found = GatedStorage(str(place))
    publish_plan(found)
    for name in NAMES:
        found.write(run_files.snapshot(RUN, name), b"tensors")
    return found


def on_loop(storage: GatedStorage, test: Callable[[Hub], Awaitable[Any]]) -> Any:
    """Make a hub and run the test on its loop, with the hub's own timer out of the way."""

    async def main() -> Any:
        hub = Hub(Launch(storage, 1))
        hub._task.cancel()
        return await asyncio.wait_for(test(hub), 60)

    return asyncio.run(main())


def rows_of(job: Job, variables: tuple[str, ...] | None = None) -> Rows:
    ways = {"distance": ("initial",), "velocity": ("previous",)}
    about = {"run": job.run, "attempt": 1, "step": job.name.step, "checksum": job.name.checksum, "probe": "p"}
    about |= {"epoch": float(job.name.step), "split": "train", "outputs": "full"}
    rows = [
        about
        | {"variable": name, "version": 1, "value": 1.0, "state": "measured", "recorded_at": 1.0}
        | {"compared_with": compared_with(ways.get(name, ()), job.earlier)}
        for name in variables or job.wanted["p"]
    ]
    profiles = [about | {"draw": 0, "variable": "trace", "version": 1, "values": [1.0], "recorded_at": 1.0}]
    return {"measurements": rows, "spectra": [about | {"draw": 0, "eigenvalues": [1.0]}], "profiles": profiles}


def measured(storage: GatedStorage) -> list[tuple[int, str, str]]:
    return [(row.step, row.variable, row.state) for row in Store(storage).measurements().itertuples()]


async def take(hub: Hub, prober: str = "a") -> Job:
    await hub.hello(prober, "life")
    return await hub.take(prober, "life")


async def remaining(hub: Hub) -> list[int]:
    await hub.rescan(RUN)
    return sorted(job.name.step for job in hub.ledger.waiting.values())
