"""What is left of a user's own loop that ends with an exception, while its snapshots have not been measured."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tangentscope import pipeline
from tangentscope.pipeline.cli import progress
from tangentscope.pipeline.driver.attach import watch as watching
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.outcome import Outcome
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.system.errors import UserError

pytestmark = pytest.mark.ray

WATCHED: dict[str, Any] = {
    "steps": 10,
    "train": (torch.randn(8, 3), torch.zeros(8, 1)),
    "variables": ["trace", "kinetic_energy"],
    "schedule": {"every": {"steps": 1}},
    "kernel": {"size": 4},
    "offline": True,
}


def stuck(place: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss that never comes to an end where it is measured: in probers, and not where the loop runs."""
    os.mkfifo(place)
    here = os.getpid()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if os.getpid() != here:
            place.read_bytes()  # nobody ever writes there
        return (outputs - targets).square().sum(1)

    return loss


def ended(out: Path, error: BaseException, steps: int = 3, **changes: Any) -> BaseException:
    """What comes out of a loop that ends with `error`."""

    def loop() -> None:
        with pipeline.attach(torch.nn.Linear(3, 1), out, **WATCHED | changes) as watch:
            for step in range(steps):
                watch(step)
            raise error

    with pytest.raises(type(error)) as caught:
        loop()
    return caught.value


def outcome(out: Path) -> Outcome | None:
    store = Store(Storage.at(out))
    return store.outcomes().get(store.runs[0].id)


def test_a_failure_waits_for_measurements_no_longer_than_it_may(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(watching, "_PATIENCE_SECONDS", 0.0)
    error, out = ValueError("diverged"), tmp_path / "mine"
    assert ended(out, error, loss=stuck(tmp_path / "gate")) is error
    assert error.__notes__ == ["snapshots are left to be measured; run the loop again to have them measured"]
    assert "attach: ValueError: diverged; finishing the loop's measurements (Ctrl-C to skip)" in caplog.messages
    found = outcome(out)
    assert found is not None
    assert (found.state, found.cause, found.steps) == ("failed", "ValueError: diverged", 2)
    assert "raise error" in (found.traceback or "")
    assert (out / "report.html").exists()
    assert len(pipeline.load(out, "snapshots")) == 3
    assert len(pipeline.load(out)) == 0


@pytest.mark.slow
def test_an_interrupt_waits_for_no_measurement_and_is_no_failure(tmp_path: Path):
    error, out = KeyboardInterrupt(), tmp_path / "mine"
    assert ended(out, error, loss=stuck(tmp_path / "gate")) is error
    assert outcome(out) is None
    assert [run.state for run in progress.now(Store(Storage.at(out)))] == ["interrupted"]
    assert (out / "report.html").exists()


def test_a_loop_that_fails_before_its_first_step_has_failed(tmp_path: Path):
    error, out = ValueError("shapes"), tmp_path / "mine"
    assert ended(out, error, steps=0, variables=["trace"]) is error
    assert not hasattr(error, "__notes__")
    found = outcome(out)
    assert found is not None
    assert (found.state, found.cause, found.steps) == ("failed", "ValueError: shapes", 0)
    assert (out / "report.html").exists()


@pytest.mark.slow
def test_what_goes_wrong_after_a_failure_does_not_hide_it(tmp_path: Path, monkeypatch):
    def refuse(*args: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(watching, "publish", refuse)
    error = ValueError("diverged")
    assert ended(tmp_path / "mine", error, variables=["trace"]) is error
    assert error.__notes__ == ["OSError: No space left on device"]
    assert len(pipeline.load(tmp_path / "mine")) == 3


SCRIPT = """
import os
import sys
from pathlib import Path
import torch, pipeline

place, here = Path(sys.argv[1]), os.getpid()

def stuck(outputs, targets):
    if os.getpid() != here:
        (place / "gate").read_bytes()
    return (outputs - targets).square().sum(1)

points = torch.zeros(8, 3), torch.zeros(8, 1)
asked = {"steps": 3, "kernel": {"size": 4}, "variables": ["kinetic_energy"], "offline": True}
with pipeline.attach(torch.nn.Linear(3, 1), place / "mine", train=points, loss=stuck, **asked) as watch:
    watch(0)
    raise ValueError("diverged")
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_after_a_failure(tmp_path: Path, number: signal.Signals):
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "loop.py").write_text(SCRIPT)
    loop = subprocess.Popen(
        [sys.executable, str(tmp_path / "loop.py"), str(tmp_path)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert loop.stderr is not None
    waiting = loop.stderr.readline()
    assert waiting == "attach: ValueError: diverged; finishing the loop's measurements (Ctrl-C to skip)\n"
    os.killpg(loop.pid, number) if number == signal.SIGINT else loop.send_signal(number)  # as a terminal, a scheduler
    _, told = loop.communicate(timeout=200)
    assert loop.returncode == 1
    assert told.splitlines()[-2:] == [
        "ValueError: diverged",
        f"{number.name}: stopped; run the same command again to go on",
    ]
    found = outcome(tmp_path / "mine")
    assert found is not None
    assert (found.state, found.cause) == ("failed", "ValueError: diverged")
    assert (tmp_path / "mine" / "report.html").exists()


def test_what_probers_cannot_load_is_told_before_the_loop(tmp_path: Path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def loss(outputs, targets):\n    return (outputs - targets).sum(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with pytest.raises(UserError, match=r"\(ModuleNotFoundError: No module named 'only_here'\); define"):
        pipeline.attach(torch.nn.Linear(3, 1), tmp_path / "mine", loss=only_here.loss, **WATCHED)
