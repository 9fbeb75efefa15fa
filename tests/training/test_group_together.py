"""A worker group whose unit is the seeds of one network: trained together, each with its own results and end."""

from typing import Any

import pytest
import torch
from on_storage import attempts, outcome, states

from tangentscope.pipeline.cluster import worker
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.snapshots import read_snapshot


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What trials say, one after another; the last goes on saying it."""
    said = [True]
    monkeypatch.setattr(
        worker, "better_together", lambda whats, data, device: said.pop(0) if len(said) > 1 else said[0]
    )
    return said


@pytest.fixture
def seeds(group: Any, runs: list[str], trials: list[bool]) -> Any:
    """Runs the group with all runs in one unit."""
    return lambda epoch=1: group(epoch, [tuple(runs)])


def modes(storage: Storage, runs: list[str]) -> list[list[bool]]:
    return [[attempt["together"] for attempt in attempts(storage, run)] for run in runs]


def weights(storage: Storage, run: str, step: int) -> torch.Tensor:
    name = next(name for name in run_files.current_snapshots(storage, run) if name.step == step)
    return read_snapshot(storage, run, name)[0]["linear_1.weight"]


def test_every_run_has_its_own_results(storage: Storage, runs: list[str], seeds: Any, group: Any) -> None:
    notices = seeds()
    assert {(notice.run, notice.name.step) for notice in notices} == {(run, step) for run in runs for step in range(5)}
    assert states(storage, runs) == ["finished"] * 3
    assert modes(storage, runs) == [[True]] * 3
    for run in runs:
        found = outcome(storage, run)
        assert (found["steps"], found["snapshots"], found["attempt"], found["together"]) == (4, 5, 1, 3)
    together = [weights(storage, run, 4) for run in runs]
    for run in runs:
        storage.remove(run_files.outcome(run))
        for directory in ("attempts", "snapshots", "checkpoints"):
            for name in storage.list(f"runs/{run}/{directory}"):
                storage.remove(f"runs/{run}/{directory}/{name}")
    group(epoch=2)
    assert modes(storage, runs) == [[False]] * 3
    for run, weight in zip(runs, together, strict=True):
        torch.testing.assert_close(weights(storage, run, 4), weight, rtol=1e-4, atol=1e-6)


def test_after_a_death_all_go_on_together_from_where_they_were(
    storage: Storage, runs: list[str], seeds: Any, dying: Any, trials: list[bool]
) -> None:
    dying(KeyboardInterrupt())  # nobody catches it, as if the process were gone
    with pytest.raises(KeyboardInterrupt):
        seeds()
    assert states(storage, runs) == [None] * 3
    before = {run: run_files.current_snapshots(storage, run)[:2] for run in runs}
    dying(None)
    trials[:] = [False]  # nobody asks again
    seeds()
    assert states(storage, runs) == ["finished"] * 3
    assert modes(storage, runs) == [[True, True]] * 3
    for run in runs:
        assert attempts(storage, run)[1]["resumed_at"] > 0
        assert run_files.current_snapshots(storage, run)[:2] == before[run]
        assert run_files.replays(storage, run) == {}


def test_runs_at_different_steps_go_on_apart_but_as_they_began(
    storage: Storage, runs: list[str], seeds: Any, dying: Any
) -> None:
    dying(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        seeds()
    dying(None)
    for name in storage.list(f"runs/{runs[0]}/checkpoints"):
        storage.remove(f"runs/{runs[0]}/checkpoints/{name}")
    seeds()
    assert states(storage, runs) == ["finished"] * 3
    assert [attempts(storage, run)[1]["resumed_at"] == 0 for run in runs] == [True, False, False]
    assert [outcome(storage, run)["together"] for run in runs] == [1, 2, 2]
    assert modes(storage, runs) == [[True, True]] * 3


def test_an_exception_fails_all_that_train_together(storage: Storage, runs: list[str], seeds: Any, dying: Any) -> None:
    dying(ZeroDivisionError("by nought"))
    seeds()
    assert states(storage, runs) == ["failed"] * 3
    assert {outcome(storage, run)["cause"] for run in runs} == {"ZeroDivisionError: by nought"}


def test_one_that_is_stopped_leaves_the_others(
    storage: Storage, runs: list[str], seeds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = worker.Recorder.snapshot

    def snapshot(self: worker.Recorder, step: int, module: torch.nn.Module, **how: Any) -> None:
        plain(self, step, module, **how)
        if self.run == runs[1] and step == 2:
            self.stopping = True

    monkeypatch.setattr(worker.Recorder, "snapshot", snapshot)
    seeds()
    assert states(storage, runs) == ["finished", "stopped", "finished"]
    assert run_files.newest_checkpoint(storage, runs[1])[0] == 2


def test_a_launch_that_stops_ends_no_run(
    storage: Storage, runs: list[str], seeds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = worker.Recorder.snapshot

    def snapshot(self: worker.Recorder, step: int, module: torch.nn.Module, **how: Any) -> None:
        plain(self, step, module, **how)
        if step == 2:
            Launch(storage, 1).stop()
            self.stopping = True

    monkeypatch.setattr(worker.Recorder, "snapshot", snapshot)
    seeds()
    assert states(storage, runs) == [None] * 3
    assert [run_files.newest_checkpoint(storage, run)[0] for run in runs] == [2, 2, 2]


def test_what_the_trial_does_not_want_together_trains_alone(
    storage: Storage, runs: list[str], seeds: Any, trials: list[bool]
) -> None:
    trials[:] = [False]
    notices = seeds()
    assert [(notice.run, notice.name.step) for notice in notices] == [(run, step) for run in runs for step in range(5)]
    assert modes(storage, runs) == [[False]] * 3


def test_a_run_that_ended_is_no_part_of_it(storage: Storage, runs: list[str], seeds: Any) -> None:
    storage.write_json(run_files.outcome(runs[0]), {"state": "finished", "ended_at": 1.0})
    storage.write(run_files.stop(runs[1]), b"")
    seeds()
    assert states(storage, runs) == ["finished", "stopped", "finished"]
    assert outcome(storage, runs[2])["together"] == 1
