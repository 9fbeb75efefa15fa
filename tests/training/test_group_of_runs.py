"""What a worker does with its group of runs, and what stands on storage when it dies: without Ray's processes."""

import errno
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import ray.train.torch
from on_storage import attempts, outcome, states

from tangentscope.pipeline.cluster import worker
from tangentscope.pipeline.cluster.worker import load_data
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.plan import Plan
from tangentscope.pipeline.system.errors import Fenced, UserError
from tangentscope.pipeline.training.attempts import DEATHS


class Death(BaseException):
    """As if the process were gone: nobody catches it."""


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
    assert [name.step for name in run_files.current_snapshots(storage, runs[1])] == [
        0,
        1,
        2,
    ]  # what it had taken is kept


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
    before = run_files.current_snapshots(storage, runs[1])
    dying(None)
    notices = group()
    assert states(storage, runs) == ["finished"] * 3
    assert attempts(storage, runs[1])[1]["resumed_at"] == 1
    assert outcome(storage, runs[1])["steps"] == 3
    assert [(notice.run, notice.name.step) for notice in notices] == [
        *((runs[1], step) for step in range(1, 5)),
        *((runs[2], step) for step in range(5)),
    ]
    again = run_files.current_snapshots(storage, runs[1])
    assert again[:3] == before
    assert [name.attempt for name in again] == [1, 1, 1, 2, 2]
    assert run_files.replays(storage, runs[1]) == {}


def test_a_fenced_group_publishes_no_outcome(storage: Storage, runs: list[str], group: Any, dying: Any) -> None:
    dying(Fenced())
    group()
    assert states(storage, runs) == ["finished", None, None]
    assert attempts(storage, runs[2]) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_storage_without_room_is_no_failure_of_the_run(
    number: int, storage: Storage, runs: list[str], group: Any, halted: list[str], dying: Any
) -> None:
    dying(OSError(number, "No room"))
    group()
    assert halted == [f"[Errno {number}] No room"]
    assert states(storage, runs) == ["finished", None, None]
    assert attempts(storage, runs[2]) == []
    dying(None)
    group(epoch=2)
    assert states(storage, runs) == ["finished"] * 3


def test_another_error_of_files_fails_its_run(
    storage: Storage, runs: list[str], group: Any, halted: list[str], dying: Any
) -> None:
    dying(FileNotFoundError("data"))
    group()
    assert (halted, states(storage, runs)) == ([], ["finished", "failed", "finished"])


def test_other_data_than_planned_are_refused(storage: Storage, runs: list[str], group: Any) -> None:
    plan = storage.read_json(layout.PLAN)
    plan["runs"][0]["data"]["fingerprint"] = "0" * 16
    first, second, third = Plan.from_json(plan).runs
    with pytest.raises(UserError, match="0000000000000000 was planned"):
        load_data(first, None)
    assert load_data(second, None) is load_data(third, None)  # read once for all
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


def test_what_the_controller_loads_is_light():
    """Workers wait for it: torch, networks and data sets are for them alone to load."""
    heavy = "{'torch', 'tangentscope.models', 'tangentscope.tasks', 'tangentscope.probes'}"
    looked = f"import tangentscope.pipeline.cluster.group_entry, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("error", [worker.Stopped(), Fenced()])
def test_of_several_ranks_one_that_is_to_stop_ends_the_group(
    error: Exception, storage: Storage, runs: list[str], pair: Any, dying: Any
) -> None:
    """The others wait for its gradients; no run is failed for it."""
    dying(error)
    with pytest.raises(type(error)):
        pair()
    assert states(storage, runs) == ["finished", None, None]
    assert [name for name in storage.list(f"runs/{runs[1]}/attempts") if "rank" in name] == []
