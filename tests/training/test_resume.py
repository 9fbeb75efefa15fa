"""A training cut short that goes on from its checkpoint leaves what an undisturbed one does, to the last bit."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_cases import RUN, Choosy, Dense, Evil, Noisy, Watched, checksums, history, points, training

from tangentscope.pipeline.config.optimisers import SGD, Adam, RateSchedule
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.system.errors import Stopped
from tangentscope.pipeline.training.learner import Training, initialise
from tangentscope.pipeline.training.loop import train
from tangentscope.pipeline.training.recorder import Recorder
from tangentscope.tasks import TaskData

CASES: dict[str, dict[str, Any]] = {
    "adam": {"model": Dense(), "optimiser": Adam(lr=0.02, schedule=RateSchedule(name="cosine", warmup=1))},
    "momentum": {"model": Dense(), "optimiser": SGD(lr=0.05, momentum=0.9)},
    "dropout and batch norm": {"model": Noisy(), "optimiser": Adam(lr=0.02)},
}
Result = tuple[dict[str, Tensor], dict[tuple[int, str, str], float], dict[int, str]]


class Death(BaseException):
    """As if the process were gone."""


def a_case(case: str) -> tuple[Training, TaskData]:
    data = points(dtype=torch.float32 if case.startswith("dropout") else torch.float64)
    few = frozenset({0, 1, 2, 4, 7, 12})
    return training(data, schedule=few, evaluations=few | {5, 9}, **CASES[case]), data


def recorder_for(what: Training, data: TaskData, storage: Storage, cls: type[Recorder] = Recorder) -> Any:
    """As a worker makes it: the attempt that follows those there were, from the newest checkpoint."""
    newest = run_files.newest_checkpoint(storage, RUN)
    attempt = 1 + len(storage.list("attempts"))
    storage.write(f"attempts/{attempt}", b"")
    module = initialise(what, data, torch.device("cpu"))
    return cls(Launch(storage, 1), RUN, attempt, what.epoch_steps, newest[0] if newest else 0, module)


def go_on(what: Training, data: TaskData, storage: Storage) -> Result:
    """Train from the newest checkpoint to the end."""
    newest = run_files.newest_checkpoint(storage, RUN)
    torch.manual_seed(123)  # another process's generator is in another state
    with recorder_for(what, data, storage) as recorder:
        module, costs = train(what, data, recorder, checkpoint=storage.read(newest[1]) if newest else None)
    assert costs.steps == what.steps - (newest[0] if newest else 0)
    return dict(module.state_dict()), history(storage), checksums(storage)


def assert_same(found: Result, expected: Result) -> None:
    for name, tensor in expected[0].items():
        assert torch.equal(found[0][name], tensor), name
    assert found[1] == expected[1]
    assert found[2] == expected[2]


def at_update(number: int, action: Callable[[], None]) -> Callable[[Tensor], None]:
    seen = []

    def on_update(targets: Tensor) -> None:
        seen.append(targets)
        if len(seen) == number:
            action()

    return on_update


def die() -> None:
    raise Death


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    return {case: go_on(*a_case(case), Storage.at(tmp_path_factory.mktemp("whole"))) for case in CASES}


@pytest.mark.parametrize("step", [1, 4, 6, 11])
@pytest.mark.parametrize("case", CASES)
def test_stopped(case: str, step: int, tmp_path: Path, undisturbed: dict[str, Result]) -> None:
    what, data = a_case(case)
    storage = Storage.at(tmp_path)
    recorder = recorder_for(what, data, storage)
    task = Watched(on_update=at_update(step, lambda: setattr(recorder, "stopping", True)))
    with pytest.raises(Stopped, match=f"after {step} of 12 steps"), recorder:
        train(replace(what, task=task), data, recorder)
    assert run_files.newest_checkpoint(storage, RUN) == (step, run_files.checkpoint(RUN, step, 1))
    assert_same(go_on(what, data, storage), undisturbed[case])


@pytest.mark.parametrize(("saved", "death"), [(None, 5), (2, 3), (4, 5), (5, 10), (8, 12)])
@pytest.mark.parametrize("case", CASES)
def test_died(case: str, saved: int | None, death: int, tmp_path: Path, undisturbed: dict[str, Result]) -> None:
    what, data = a_case(case)
    storage = Storage.at(tmp_path)
    recorder = recorder_for(what, data, storage, Choosy)
    recorder.at = frozenset({saved})
    task = Watched(on_update=at_update(death, die))
    with pytest.raises(Death), recorder:
        train(replace(what, task=task), data, recorder, checkpoint_seconds=-1)
    newest = run_files.newest_checkpoint(storage, RUN)
    assert newest == (saved and (saved, run_files.checkpoint(RUN, saved, 1)))
    assert_same(go_on(what, data, storage), undisturbed[case])


def test_stopped_again_and_again(tmp_path: Path, undisturbed: dict[str, Result]) -> None:
    case = "dropout and batch norm"
    what, data = a_case(case)
    storage = Storage.at(tmp_path)
    for _ in range(what.steps - 1):
        newest = run_files.newest_checkpoint(storage, RUN)
        recorder = recorder_for(what, data, storage)
        task = Watched(on_update=at_update(1, lambda r=recorder: setattr(r, "stopping", True)))
        part = replace(what, task=task)
        with pytest.raises(Stopped), recorder:
            train(part, data, recorder, checkpoint=newest and storage.read(newest[1]))
    assert len(storage.list(f"runs/{RUN}/checkpoints")) == 1
    assert not storage.list(f"runs/{RUN}/replays")
    assert_same(go_on(what, data, storage), undisturbed[case])


def test_a_checkpoint_is_of_its_moment(tmp_path: Path) -> None:
    what, data = a_case("dropout and batch norm")
    handed: dict[int, Any] = {}
    copies: dict[int, bytes] = {}

    class Keeping(Recorder):
        def checkpoint(self, step: int, state: Any) -> None:
            handed[step], buffer = state, io.BytesIO()
            torch.save(state, buffer)
            copies[step] = buffer.getvalue()

    with recorder_for(what, data, Storage.at(tmp_path), Keeping) as recorder:
        train(what, data, recorder, checkpoint_seconds=-1)
    assert sorted(handed) == list(range(12))  # none at the end, where the outcome takes its place
    for step, state in handed.items():
        then = torch.load(io.BytesIO(copies[step]), weights_only=True)
        assert then["step"] == state["step"] == step
        flat = [(then["module"], state["module"])]
        flat += [(then["optimiser"]["state"][k], state["optimiser"]["state"][k]) for k in state["optimiser"]["state"]]
        assert len(flat) == 1 + (6 if step else 0)
        assert all(torch.equal(one[name], two[name]) for one, two in flat for name in two)


@pytest.mark.parametrize("looks", [4, 5])
def test_a_stop_between_two_looks_does_not_lose_the_checkpoint(looks: int, tmp_path: Path) -> None:
    what, data = a_case("adam")

    class Late(Recorder):
        """Its thread learns of the stop right after training has looked for it `looks` times."""

        looked = 0

        @property
        def stopping(self) -> bool:
            self.looked += 1
            return self.looked > looks

        @stopping.setter
        def stopping(self, value: bool) -> None:
            pass

    storage = Storage.at(tmp_path)
    with pytest.raises(Stopped), recorder_for(what, data, storage, Late) as recorder:
        train(what, data, recorder)
    assert run_files.newest_checkpoint(storage, RUN) is not None


def test_the_launch_is_asked_to_stop(tmp_path: Path) -> None:
    data = points()
    # Long enough that only the stop can end it.
    what = training(data, epochs=1e6, schedule=frozenset({0}), evaluations=frozenset({0}))
    storage = Storage.at(tmp_path)
    recorder = recorder_for(what, data, storage)
    recorder.launch.stop()
    with pytest.raises(Stopped), recorder:
        train(what, data, recorder)
    newest = run_files.newest_checkpoint(storage, RUN)
    assert newest is not None
    assert newest[0] > 0
    assert not storage.exists(run_files.outcome(RUN))


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    data = points()
    target = tmp_path / "touched"
    file = io.BytesIO()
    torch.save({"step": 1, "module": Evil(target), "optimiser": {}}, file)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        train(training(data), data, None, checkpoint=file.getvalue())
    assert not target.exists()
    torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    assert target.exists()  # it would have
