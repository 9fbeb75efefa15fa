"""The hub frees snapshots that need not be kept."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from gated_storage import GatedStorage
from hub_cases import NAMES, on_loop, publish_plan, remaining, rows_of, take, three_snapshots
from training_cases import RUN

from tangentscope.pipeline.cluster.hub import Hub
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.layout import Notice


@pytest.fixture
def storage(tmp_path: Path) -> GatedStorage:
    return three_snapshots(tmp_path)


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
    current = run_files.current_snapshots(storage, RUN)
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
            there = [name.step for name in run_files.current_snapshots(storage, RUN) if not name.freed]
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
    storage.write(run_files.snapshot(RUN, replace(NAMES[1], freed=True)), b"")
    storage.remove(run_files.snapshot(RUN, NAMES[1]))
    assert [name.freed for name in run_files.current_snapshots(storage, RUN)] == [False, True, False]
    assert on_loop(storage, lambda hub: remaining(hub)) == []
    assert [name.freed for name in run_files.current_snapshots(storage, RUN)] == [True, True, True]
