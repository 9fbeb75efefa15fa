"""Giving storage back: nothing that is still wanted, and all that is not."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from study_on_disk import Row, checksum, replay, rewrite_measurements, write_study

from tangentscope.pipeline.driver.free import Freed, free
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import claim
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.system.errors import UserError

Study = tuple[Storage, dict[str, Any]]


def kept(storage: Storage, run: str) -> list[int]:
    return [name.step for name in run_files.current_snapshots(storage, run) if not name.freed]


def bytes_below(storage: Storage, plan: dict[str, Any]) -> int:
    """Of all snapshots and checkpoints."""
    folders = [f"runs/{run['run']}/{kind}" for run in plan["runs"] for kind in ("snapshots", "checkpoints")]
    return sum(storage.size(f"{folder}/{name}") for folder in folders for name in storage.list(folder))


@pytest.mark.parametrize(("keep", "left"), [(None, [0, 1, 2, 4]), ("ends", [0, 4]), ("none", [])])
def test_measured_snapshots_go_as_the_policy_says(finished: Study, keep: Any, left: list[int]):
    storage, plan = finished
    before = bytes_below(storage, plan)
    freed = free(storage, keep)
    gone = 4 - len(left)
    assert freed == Freed({"snapshots": 2 * gone} if gone else {}, before - bytes_below(storage, plan))
    for run in plan["runs"]:
        assert run["schedule"] == [0, 1, 2, 4]
        assert kept(storage, run["run"]) == left
        assert [name.step for name in run_files.current_snapshots(storage, run["run"])] == [0, 1, 2, 4], "tombstones"
    assert free(storage, keep) == Freed({}, 0)


def test_a_dry_run_frees_nothing(finished: Study):
    storage, plan = finished
    assert free(storage, "none", dry_run=True).counts == {"snapshots": 8}
    assert all(kept(storage, run["run"]) == [0, 1, 2, 4] for run in plan["runs"])


def test_what_is_still_to_be_measured_or_has_failed_stays(finished: Study):
    storage, plan = finished
    first, second = (run["run"] for run in plan["runs"])

    def change(row: Row) -> Row | None:
        at = row["run"], row["step"]
        return None if at == (second, 1) else row | ({"state": "failed"} if at == (first, 2) else {})

    rewrite_measurements(storage, plan, change)
    free(storage, "none")
    assert (kept(storage, first), kept(storage, second)) == ([2], [1])


def test_what_compares_keeps_what_it_compares_with(tmp_path):
    storage, plan = write_study(tmp_path, "probes.variables=[trace, kernel_velocity]")
    free(storage, "none")  # the made-up rows do not say with what they compared
    assert all(kept(storage, run["run"]) == [0, 1, 2, 4] for run in plan["runs"])


def test_snapshots_of_a_schedule_that_no_longer_holds_go_too(finished: Study):
    storage, plan = finished
    run = plan["runs"][0]["run"]
    storage.write(run_files.snapshot(run, SnapshotName(3, 1, checksum(3))), b"parameters")
    free(storage)
    assert 3 in kept(storage, run)
    free(storage, "ends")
    assert kept(storage, run) == [0, 4]


def test_replaced_trajectories_and_checkpoints_of_finished_runs_go(finished: Study):
    storage, plan = finished
    first, second = (run["run"] for run in plan["runs"])
    replay(storage, first, attempt=2, after_step=1)
    later = SnapshotName(2, 2, checksum(2, 2))
    storage.write(run_files.snapshot(first, later), b"parameters")
    for run in (first, second):
        storage.write(run_files.checkpoint(run, 3, 1), b"state")
    storage.remove(run_files.outcome(second))
    before = bytes_below(storage, plan)
    freed = free(storage)
    assert freed.counts == {"replaced snapshots": 2, "checkpoints": 1}
    assert freed.bytes == before - bytes_below(storage, plan)
    assert storage.exists(run_files.snapshot(first, later))
    assert kept(storage, first) == [0, 1, 2]
    assert (storage.exists(run_files.checkpoint(first, 3, 1)), storage.exists(run_files.checkpoint(second, 3, 1))) == (
        False,
        True,
    )


def test_half_written_files_go_once_their_writer_is_dead(finished: Study):
    storage, _ = finished
    assert storage.local is not None
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    files = {pid: storage.local / "tables" / f".part.parquet.{pid}-7" for pid in (dead.pid, os.getpid())}
    other = storage.local / ".gitignore"
    for file in (*files.values(), other):
        file.write_bytes(b"half")
    assert free(storage).counts == {"files of writers that died": 1}
    assert (files[dead.pid].exists(), files[os.getpid()].exists(), other.exists()) == (False, True, True)


def test_a_study_that_runs_is_left_alone(finished: Study):
    storage, plan = finished
    with claim(storage), pytest.raises(UserError, match=r"is held by another launch \(process \d+ on .*; wait for it"):
        free(storage, "none")
    assert kept(storage, plan["runs"][0]["run"]) == [0, 1, 2, 4]


def test_a_tombstone_beside_its_snapshot_is_finished(finished: Study):
    storage, plan = finished
    run = plan["runs"][0]["run"]
    name = SnapshotName(1, 1, checksum(1))
    storage.write(run_files.snapshot(run, replace(name, freed=True)), b"")  # the hub died in between
    free(storage, "ends")
    assert kept(storage, run) == [0, 4]
