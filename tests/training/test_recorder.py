"""How training hands snapshots, rows and checkpoints over to the recorder's thread, with storage slow or broken."""

# ruff: noqa: PT012  what happens in the block, and how it is left, is what is tested

import errno
import queue
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gated_storage import GatedStorage
from torch import nn
from training_cases import RUN, Points, filled, history, points, publish_plan, states, training

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.snapshots import SnapshotBuffer
from tangentscope.pipeline.system.errors import Fenced
from tangentscope.pipeline.training import recorder as recording
from tangentscope.pipeline.training.loop import train
from tangentscope.pipeline.training.recorder import Recorder


@pytest.fixture
def gated(tmp_path: Path) -> GatedStorage:
    return GatedStorage(str(tmp_path))


@pytest.fixture
def network() -> nn.Module:
    return nn.Linear(3, 2)


@pytest.fixture
def recorder(gated: GatedStorage, network: nn.Module, recorder_of: Callable[..., Any]) -> Recorder:
    return recorder_of(network, launch=Launch(gated, 1), notify=lambda notice: gated.written.append("notice"))


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def checkpoints(storage: GatedStorage) -> list[str]:
    return storage.list(f"runs/{RUN}/checkpoints")


class WhenEmpty(queue.SimpleQueue):
    """Calls `action` before it makes anybody wait."""

    action: Callable[[], None]

    def get(self, *args: Any, **kwargs: Any) -> Any:
        if self.empty():
            self.action()
        return super().get(*args, **kwargs)


def test_two_snapshots_do_not_wait_for_storage_and_the_third_does(
    gated: GatedStorage, network: nn.Module, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated.holds.append("/snapshots/")
    clock = SimpleNamespace(now=0.0)
    real = recording.time
    stopped = SimpleNamespace(perf_counter=lambda: clock.now, monotonic=real.monotonic, time=real.time)
    monkeypatch.setattr(recording, "time", stopped)

    def copy(buffer: SnapshotBuffer, state: Any, plain: Any = SnapshotBuffer.copy_from) -> None:
        clock.now += 7.0
        plain(buffer, state)

    monkeypatch.setattr(SnapshotBuffer, "copy_from", copy)
    waiting = []

    def wait() -> None:
        waiting.append(list(gated.written))
        clock.now += 100.0
        gated.gate.set()

    free = WhenEmpty()
    free.action = wait
    while not recorder._free.empty():
        free.put(recorder._free.get())
    recorder._free = free
    with recorder:
        recorder.snapshot(0, filled(network, 0.0))
        recorder.snapshot(1, filled(network, 1.0))
        filled(network, -1.0)
        assert gated.held.wait(60)
        assert gated.written == waiting == []
        assert (recorder.copy_seconds, recorder.wait_seconds) == ([7.0, 7.0], 0.0)
        recorder.snapshot(2, filled(network, 2.0))
        filled(network, -2.0)
    assert waiting == [[]]  # once, with nothing written yet
    assert (recorder.copy_seconds, recorder.wait_seconds) == ([7.0, 7.0, 7.0], 100.0)
    for step, state in states(gated).items():
        assert all(torch.equal(tensor, torch.full_like(tensor, step)) for tensor in state.values())
    publish_plan(gated)
    rows = Store(gated).snapshots()
    assert rows["step"].tolist() == [0, 1, 2]
    assert rows["copy_seconds"].tolist() == [7.0, 7.0, 7.0]
    assert rows["wait_seconds"].tolist() == [0.0, 0.0, 100.0]
    assert rows["bytes"].tolist() == [32, 32, 32]
    assert rows["checksum"].tolist() == [name.checksum for name in run_files.current_snapshots(gated, RUN)]


def test_many_snapshots_through_two_buffers_keep_their_moments(
    gated: GatedStorage, network: nn.Module, recorder: Recorder
) -> None:
    with recorder:
        for step in range(20):
            recorder.snapshot(step, filled(network, float(step)))
            filled(network, -1.0)
    found = states(gated)
    assert sorted(found) == list(range(20))
    for step, state in found.items():
        assert all(torch.equal(tensor, torch.full_like(tensor, step)) for tensor in state.values())


def test_a_notice_follows_its_file(gated: GatedStorage, network: nn.Module, recorder_of: Callable[..., Any]) -> None:
    notices: list[tuple[Notice, bool]] = []

    def notify(notice: Notice) -> None:
        notices.append((notice, gated.exists(run_files.snapshot(RUN, notice.name))))

    with recorder_of(network, launch=Launch(gated, 1), notify=notify) as recorder:
        for step in (0, 3):
            recorder.snapshot(step, network)
    assert [(notice.name, there) for notice, there in notices] == [
        (name, True) for name in run_files.current_snapshots(gated, RUN)
    ]


def test_a_checkpoint_comes_after_every_snapshot_and_row_before_it(
    gated: GatedStorage, network: nn.Module, recorder: Recorder
) -> None:
    gated.holds.append("/snapshots/")
    with recorder:
        recorder.row(0, "train", "loss", 1.5)
        recorder.snapshot(0, network)
        recorder.snapshot(1, filled(network, 1.0))
        recorder.checkpoint(1, {"step": 1})
        recorder.row(2, "train", "loss", 0.5)
        assert gated.held.wait(60)
        assert recorder.checkpointing
        assert checkpoints(gated) == gated.written == []
        gated.gate.set()
    assert not recorder.checkpointing
    kinds = [name.rpartition("/")[0].removeprefix(f"runs/{RUN}/") for name in gated.written]
    history_rows, snapshot_rows = ([f"tables/{table}", f"manifests/{table}"] for table in ("history", "snapshots"))
    assert kinds == ["snapshots", "", "snapshots", "", *history_rows, *snapshot_rows, "checkpoints", *history_rows]
    assert checkpoints(gated) == ["0000000001-0001.pt"]
    assert history(gated) == {(0, "train", "loss"): 1.5, (2, "train", "loss"): 0.5}


@pytest.mark.parametrize("broken", ["/snapshots/0000000001", "tables/history", "tables/snapshots"])
def test_no_checkpoint_if_what_was_before_it_is_lost(
    broken: str, gated: GatedStorage, network: nn.Module, recorder: Recorder
) -> None:
    with pytest.raises(OSError, match="No space"), recorder:
        recorder.checkpoint(0, {"step": 0})
        recorder._work.put(lambda: gated.fails.update({broken: no_space}))
        recorder.snapshot(0, network)
        recorder.row(1, "train", "loss", 1.0)
        recorder.snapshot(1, filled(network, 1.0))
        recorder.checkpoint(1, {"step": 1})  # raises too, if the thread was quick
    assert checkpoints(gated) == ["0000000000-0001.pt"]  # the older one stays


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one(
    gated: GatedStorage, network: nn.Module, recorder: Recorder
) -> None:
    with pytest.raises(OSError, match="No space"), recorder:
        recorder.checkpoint(4, {"step": 4})
        recorder._work.put(lambda: gated.fails.update({"/checkpoints/": no_space}))
        recorder.checkpoint(5, {"step": 5})
    assert checkpoints(gated) == ["0000000004-0001.pt"]
    assert torch.load(gated.local / f"runs/{RUN}/checkpoints/0000000004-0001.pt") == {"step": 4}


def test_a_newer_checkpoint_takes_the_place_of_the_older(gated: GatedStorage, recorder: Recorder) -> None:
    gated.write(run_files.checkpoint(RUN, 9, 0), b"of an earlier attempt")
    with recorder:
        recorder.checkpoint(4, {"step": 4})
        recorder.checkpoint(6, {"step": 6})
    assert checkpoints(gated) == ["0000000006-0001.pt"]


CALLS: dict[str, Callable[[Recorder, nn.Module], None]] = {
    "snapshot": lambda recorder, network: recorder.snapshot(1, network),
    "row": lambda recorder, network: recorder.row(1, "train", "loss", 0.0),
    "checkpoint": lambda recorder, network: recorder.checkpoint(1, {}),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_threads_error_is_raised_at_the_next_call(
    call: str, gated: GatedStorage, network: nn.Module, recorder: Recorder
) -> None:
    gated.fails["/snapshots/"] = no_space
    with pytest.raises(OSError, match="No space"), recorder:
        recorder.snapshot(0, network)
        recorder._thread.join(60)
        with pytest.raises(OSError, match="No space"):
            CALLS[call](recorder, network)
    assert gated.written == []


def test_the_threads_error_is_raised_at_the_end(gated: GatedStorage, network: nn.Module, recorder: Recorder) -> None:
    gated.fails["/snapshots/"] = no_space
    with pytest.raises(OSError, match="No space"), recorder:
        recorder.snapshot(0, network)


def test_the_threads_error_does_not_hide_trainings_own(
    gated: GatedStorage, network: nn.Module, recorder: Recorder
) -> None:
    gated.fails["/snapshots/"] = no_space
    with pytest.raises(ZeroDivisionError), recorder:
        recorder.snapshot(0, network)
        raise ZeroDivisionError


def test_nobody_waits_for_a_dead_thread(gated: GatedStorage, network: nn.Module, recorder: Recorder) -> None:
    gated.holds.append("/snapshots/")
    gated.fails["/snapshots/"] = no_space
    with pytest.raises(OSError, match="No space"), recorder:
        recorder.snapshot(0, network)
        recorder.snapshot(1, network)
        assert gated.held.wait(60)
        free = WhenEmpty()
        free.action = gated.gate.set  # training waits for a buffer already when the thread dies
        recorder._free = free
        recorder.snapshot(2, network)
        pytest.fail("there was no third buffer")


def test_training_ends_with_the_threads_error(gated: GatedStorage, recorder_of: Callable[..., Any]) -> None:
    gated.fails["/snapshots/0000000003"] = no_space
    data = points()
    what = training(data)
    with pytest.raises(OSError, match="No space"), recorder_of(what, data, launch=Launch(gated, 1)) as recorder:
        train(what, data, recorder, checkpoint_seconds=-1)
    assert sorted(states(gated)) == [0, 1, 2]
    assert all(name < "0000000003" for name in checkpoints(gated))


@pytest.mark.parametrize("what", ["snapshot", "row", "checkpoint"])
def test_a_newer_launch_fences_the_older(
    what: str, gated: GatedStorage, network: nn.Module, recorder: Recorder
) -> None:
    with pytest.raises(Fenced, match="taken over"), recorder:
        recorder.snapshot(0, network)
        recorder._work.put(lambda: gated.create("launches/000002.json", b"{}") or None)
        CALLS[what](recorder, filled(network, 1.0))
    assert [name for name in gated.written if name != "notice"] == [
        run_files.snapshot(RUN, name) for name in run_files.current_snapshots(gated, RUN)
    ]
    assert sorted(states(gated)) == [0]


def test_rows_of_a_failed_run_are_kept(gated: GatedStorage, recorder_of: Callable[..., Any]) -> None:
    class Broken(Points, frozen=True):
        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            if outputs.requires_grad:
                raise ZeroDivisionError
            return super().loss(outputs, targets)

    data = points()
    what = training(data, task=Broken())
    with pytest.raises(ZeroDivisionError), recorder_of(what, data, launch=Launch(gated, 1)) as recorder:
        train(what, data, recorder)
    assert {(step, split) for step, split, _ in history(gated)} == {(0, "train"), (0, "test")}
    assert sorted(states(gated)) == [0]
