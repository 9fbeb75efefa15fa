"""The hub's publishing, as a plain object on an event loop of this process."""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gated_storage import GatedStorage
from training_cases import RUN

from pipeline import layout
from pipeline.cluster.hub import Hub
from pipeline.errors import Fenced, UserError
from pipeline.launch import Launch
from pipeline.layout import Notice, SnapshotName
from pipeline.ledger import TRIES, Job, compared_with
from pipeline.store import Store
from pipeline.tables import Rows

NAMES = [SnapshotName(step, 1, f"{step:016x}") for step in (0, 4, 8)]


def publish_plan(storage: GatedStorage, keep: str = "all", **compares: list[str]) -> None:
    run = {"run": RUN, "seed": 0, "varied": {}, "probes": ["p"], "schedule": [0, 4, 8], "steps": 8, "epoch_steps": 4}
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


@pytest.fixture
def storage(tmp_path: Path) -> GatedStorage:
    found = GatedStorage(str(tmp_path))
    publish_plan(found)
    for name in NAMES:
        found.write(layout.snapshot(RUN, name), b"tensors")
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
    rows = [
        about
        | {"variable": name, "version": 1, "value": 1.0, "state": "measured"}
        | {"compared_with": compared_with(ways.get(name, ()), job.earlier)}
        for name in variables or job.wanted["p"]
    ]
    profiles = [about | {"draw": 0, "variable": "trace", "version": 1, "values": [1.0]}]
    return {"measurements": rows, "spectra": [about | {"draw": 0, "eigenvalues": [1.0]}], "profiles": profiles}


def measured(storage: GatedStorage) -> list[tuple[int, str, str]]:
    return [(row.step, row.variable, row.state) for row in Store(storage).measurements().itertuples()]


async def take(hub: Hub, prober: str = "a") -> Job:
    await hub.hello(prober, "life")
    return await hub.take(prober, "life")


def test_what_counts_as_measured_is_on_storage_with_its_spectrum_and_profiles_before_it(storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[0]))
        job = await take(hub)
        await hub.deliver(job.ticket, rows_of(job))
        assert (await hub.status())["measured"] == {RUN: 0}
        await hub._publish()
        assert (await hub.status())["measured"] == {RUN: 2}

    on_loop(storage, test)
    assert [name.split("/")[1] for name in storage.written if name.startswith("tables")] == [
        "spectra",
        "profiles",
        "measurements",
    ]
    assert measured(storage) == [(0, "entropy", "measured"), (0, "trace", "measured")]
    # Another hub knows, and asks only for what is missing.
    assert on_loop(storage, lambda hub: remaining(hub)) == [4, 8]


async def remaining(hub: Hub) -> list[int]:
    await hub.rescan(RUN)
    return sorted(job.name.step for job in hub.ledger.waiting.values())


@pytest.mark.parametrize("broken", ["tables/spectra", "tables/profiles", "tables/measurements"])
def test_rows_wait_for_a_storage_that_is_full(broken: str, storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[0]))
        job = await take(hub)
        await hub.deliver(job.ticket, rows_of(job))
        storage.fails[broken] = lambda: OSError(errno.ENOSPC, "No space left on device")
        await hub._publish()
        status = await hub.status()
        assert "No space" in status["trouble"]
        assert status["measured"] == {RUN: 0}
        assert not hub.ledger.idle
        storage.fails.clear()
        await hub._publish()
        status = await hub.status()
        assert (status["trouble"], status["measured"]) == (None, {RUN: 2})

    on_loop(storage, test)
    assert measured(storage) == [(0, "entropy", "measured"), (0, "trace", "measured")]


def test_a_job_that_fails_three_times_leaves_rows_that_say_so(storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[1]))
        for _ in range(TRIES):
            job = await take(hub)
            await hub.give_back(job.ticket, "out of memory")
        assert not hub.ledger.waiting
        await hub._publish()

    on_loop(storage, test)
    assert measured(storage) == [(4, "entropy", "failed"), (4, "trace", "failed")]
    assert set(Store(storage).measurements()["cause"]) == {"out of memory"}
    assert on_loop(storage, lambda hub: remaining(hub)) == [0, 8]
    plan = storage.read_json(layout.PLAN)
    storage.write_json(layout.PLAN, plan | {"retried_at": {RUN: time.time()}})
    assert on_loop(storage, lambda hub: remaining(hub)) == [0, 4, 8]  # a failure is never done


@pytest.mark.parametrize(("keep", "kept"), [("all", [0, 4, 8]), ("ends", [0, 8]), ("none", [])])
def test_measured_snapshots_are_freed_as_the_study_says(keep: str, kept: list[int], storage: GatedStorage) -> None:
    publish_plan(storage, keep)

    async def test(hub: Hub) -> None:
        await hub.rescan(RUN)
        for k in range(3):
            job = await take(hub)
            variables = ("trace", "entropy")
            await hub.deliver(job.ticket, rows_of(job, variables[: 1 + (k < 2)]))
            await hub._publish()

    on_loop(storage, test)
    # The last job brought only one of two variables: its snapshot is still needed.
    current = layout.current_snapshots(storage, RUN)
    assert [name.step for name in current] == [0, 4, 8]
    assert [name.step for name in current if not name.freed] == sorted({*kept, 8})
    assert [name.checksum for name in current] == [name.checksum for name in NAMES]


@pytest.mark.parametrize(
    ("keep", "compares", "kept"),
    [
        ("none", {"distance": ["initial"]}, [[0], [0], []]),
        ("none", {"velocity": ["previous"]}, [[0], [4], []]),
        ("ends", {"velocity": ["previous"]}, [[0], [0, 4], [0, 8]]),
    ],
)
def test_a_snapshot_is_kept_while_later_ones_compare_with_it(
    keep: str, compares: dict, kept: list[list[int]], storage: GatedStorage
) -> None:
    publish_plan(storage, keep, **compares)
    found = []

    async def test(hub: Hub) -> None:
        for name in NAMES:
            await hub.notice(Notice(RUN, name))
            job = await take(hub)
            await hub.deliver(job.ticket, rows_of(job))
            await hub._publish()
            there = [name.step for name in layout.current_snapshots(storage, RUN) if not name.freed]
            found.append([step for step in there if step <= job.name.step])

    on_loop(storage, test)
    assert found == kept
    assert on_loop(storage, lambda hub: remaining(hub)) == []


def test_a_hub_that_starts_again_frees_what_it_finds_no_use_for(storage: GatedStorage) -> None:
    """Everything was measured, and the last freeing was cut short after the later snapshot."""
    publish_plan(storage, "none", velocity=["previous"])

    async def test(hub: Hub) -> None:
        await hub.rescan(RUN)
        for _ in NAMES:
            job = await take(hub)
            await hub.deliver(job.ticket, rows_of(job))
        storage.fails["freed"] = lambda: OSError(errno.EIO, "Input/output error")
        await hub._publish()

    on_loop(storage, test)
    storage.fails.clear()
    storage.write(layout.snapshot(RUN, replace(NAMES[1], freed=True)), b"")
    storage.remove(layout.snapshot(RUN, NAMES[1]))
    assert [name.freed for name in layout.current_snapshots(storage, RUN)] == [False, True, False]
    assert on_loop(storage, lambda hub: remaining(hub)) == []
    assert [name.freed for name in layout.current_snapshots(storage, RUN)] == [True, True, True]


def test_a_prober_that_waits_is_told_when_a_comparison_becomes_possible(storage: GatedStorage) -> None:
    publish_plan(storage, velocity=["previous"])

    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[1]))
        job = await take(hub)
        assert job.wanted == {"p": ("trace", "entropy")}
        await hub.notice(Notice(RUN, NAMES[0]))
        first = await take(hub, "b")
        assert first.name.step == 0
        waiting = asyncio.ensure_future(hub.take("b", "life"))
        await asyncio.sleep(0)
        assert not waiting.done()
        await hub.deliver(job.ticket, rows_of(job))
        await hub._publish()
        job = await waiting
        assert (job.wanted, job.earlier) == ({"p": ("velocity",)}, {"previous": NAMES[0]})

    on_loop(storage, test)


def test_a_replay_whose_first_notice_was_lost_is_known_from_storage(storage: GatedStorage) -> None:
    """Attempt 2 left the trajectory at step 0; the hub had heard of no snapshot there that could have told it."""
    replayed = SnapshotName(0, 2, "f" * 16)

    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[1]))
        storage.write_json(f"runs/{RUN}/replays/0002.json", {"after_step": -1})
        await hub.notice(Notice(RUN, replayed))
        assert (await take(hub)).name == replayed
        assert (await hub.status())["waiting"] == 0

    on_loop(storage, test)


def test_an_older_launchs_hub_publishes_nothing(storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[0]))
        job = await take(hub)
        await hub.deliver(job.ticket, rows_of(job))
        storage.create("launches/000002.json", b"{}")
        with pytest.raises(Fenced):
            await hub._publish()

    on_loop(storage, test)
    assert measured(storage) == []


def test_close_sends_waiting_probers_home_and_publishes_what_they_delivered(storage: GatedStorage) -> None:
    async def test(hub: Hub) -> None:
        await hub.notice(Notice(RUN, NAMES[2]))
        job = await take(hub)
        waiting = asyncio.ensure_future(hub.take("a", "life"))
        await hub.deliver(job.ticket, rows_of(job))
        await hub.close()
        assert await waiting is None

    on_loop(storage, test)
    assert [step for step, _, _ in measured(storage)] == [8, 8]


def test_a_storage_that_stays_full_ends_the_wait_with_its_reason(
    storage: GatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cluster.hub._PATIENCE_SECONDS", -1.0)

    async def test(hub: Hub) -> None:
        for name in NAMES:
            await hub.notice(Notice(RUN, name))
            job = await take(hub)
            await hub.deliver(job.ticket, rows_of(job))
        storage.fails["tables/"] = lambda: OSError(errno.ENOSPC, "No space left on device")
        with pytest.raises(UserError, match=r"No space left on device.*run the same command again"):
            await hub.drain()
        storage.fails.clear()
        await hub.drain()

    on_loop(storage, test)
    assert len(measured(storage)) == 6


def test_a_storage_that_fails_once_ends_no_publishing(storage: GatedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster.hub._RESCAN_SECONDS", -1.0)
    monkeypatch.setattr("pipeline.tables.flush_interval", lambda elapsed: 0.0)
    plain, asked = layout.current_snapshots, []

    def current_snapshots(*where: Any) -> list[SnapshotName]:
        asked.append(where)
        if len(asked) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return plain(*where)

    monkeypatch.setattr(layout, "current_snapshots", current_snapshots)

    async def main() -> None:
        hub = Hub(Launch(storage, 1))
        for _ in NAMES:  # found by looking again, after the first look failed
            job = await asyncio.wait_for(take(hub), 60)
            await hub.deliver(job.ticket, rows_of(job))
        await asyncio.wait_for(hub.drain(), 60)
        assert not hub._task.done()
        hub._task.cancel()

    asyncio.run(main())
    assert len(measured(storage)) == 6
