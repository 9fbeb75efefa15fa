from pathlib import Path

import pytest
from study_on_disk import checksum, replay

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.run_files import current_snapshots, newest_checkpoint, superseded


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path)


def snapshots(storage: Storage, *names: tuple[int, int], freed: bool = False) -> None:
    for step, attempt in names:
        name = SnapshotName(step, attempt, checksum(step, attempt), freed)
        storage.write(run_files.snapshot("run", name), b"")


def current(storage: Storage) -> list[tuple[int, int, bool]]:
    return [(name.step, name.attempt, name.freed) for name in current_snapshots(storage, "run")]


def test_names_are_told_and_read_again(storage: Storage):
    name = SnapshotName(10, 2, "0123456789abcdef")
    assert run_files.snapshot("run", name) == "runs/run/snapshots/0000000010-0002-0123456789abcdef.safetensors"
    storage.write(run_files.snapshot("run", name), b"")
    storage.write("runs/run/snapshots/notes.txt", b"")
    assert current_snapshots(storage, "run") == [name]
    assert current_snapshots(storage, "other") == []


def test_steps_come_in_order_and_the_latest_attempt_wins(storage: Storage):
    snapshots(storage, (1000, 1), (2, 1), (2, 3), (2, 2), (10, 1))
    assert current(storage) == [(2, 3, False), (10, 1, False), (1000, 1, False)]


def test_what_a_replay_left_behind_is_gone_and_what_came_before_stays(storage: Storage):
    snapshots(storage, (0, 1), (5, 1), (10, 1), (20, 1), (10, 2))
    replay(storage, "run", attempt=2, after_step=5)
    assert current(storage) == [(0, 1, False), (5, 1, False), (10, 2, False)]
    assert not superseded(1, 5, {2: 5})
    assert superseded(1, 6, {2: 5})
    assert not superseded(2, 6, {2: 5})
    assert superseded(1, 6, {2: 9, 3: 5})


def test_a_freed_snapshot_is_known_and_one_freed_by_half_still_there(storage: Storage):
    snapshots(storage, (1, 1), (2, 1))
    snapshots(storage, (1, 1), (3, 1), freed=True)
    assert current(storage) == [(1, 1, False), (2, 1, False), (3, 1, True)]


def test_the_newest_checkpoint_is_the_latest_attempts(storage: Storage):
    assert newest_checkpoint(storage, "run") is None
    for step, attempt in ((300, 1), (100, 2), (200, 2)):
        storage.write(run_files.checkpoint("run", step, attempt), b"")
    storage.write("runs/run/checkpoints/other.pt", b"")
    assert newest_checkpoint(storage, "run") == (200, "runs/run/checkpoints/0000000200-0002.pt")
    assert storage.exists("runs/run/checkpoints/0000000200-0002.pt")
