"""The object that attach() gives: recording, closing, and that nothing which goes wrong with it ends the loop."""

import errno
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import InProcess
from torch import nn

from tangentscope import pipeline
from tangentscope.pipeline.driver.attach import attach as attached
from tangentscope.pipeline.driver.attach import watch as watching
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch, ask_to_stop
from tangentscope.pipeline.store.outcome import Outcome
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.store.status import NO_ANSWER, HubStatus
from tangentscope.pipeline.system.errors import Fenced, Stopped, UserError

LABELS = torch.arange(8) % 2
POINTS = torch.linspace(-1, 1, 24).reshape(8, 3), LABELS


def model_that_changes() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def steps(watch: Any, model: nn.Module, until: int = 4, **values: Any) -> None:
    for step in range(until):
        watch(step, **values)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1


def outcome(tmp_path: Path) -> Outcome | None:
    store = Store(Storage.at(tmp_path / "mine"))
    return store.outcomes().get(store.runs[0].id)


def ended_as(tmp_path: Path) -> str | None:
    ended = outcome(tmp_path)
    return ended and ended.state


def test_without_a_block_it_records_and_is_closed_once(attach, tmp_path, capsys) -> None:
    model = model_that_changes()
    watch = attach(model, quiet=False)
    steps(watch, model, loss=2.0)
    watch.close()
    watch.close()
    assert InProcess.latest.ended == ["tracked", "left"]
    assert pipeline.load(tmp_path / "mine")["step"].tolist() == [0, 1, 2, 3, 4]
    assert pipeline.load(tmp_path / "mine", "history")["value"].tolist() == [2.0] * 4
    assert ended_as(tmp_path) == "finished"
    report = f"{tmp_path / 'mine' / 'report.html'}"
    assert capsys.readouterr().out.splitlines() == [
        f"attach: Linear with 8 parameters, 5 snapshots up to step 4; at the end the report is {report}",
        f"attach: 5 of 5 snapshots, 5 of 5 values measured; report: {report}",
    ]
    assert (watch.closed, watch.failed, watch.troubles) == (True, {}, ())
    with pytest.raises(UserError, match="this watch has been closed"):
        watch(4)
    with pytest.raises(UserError, match="this watch has been closed"), watch:
        raise AssertionError("the loop has begun")


def test_a_block_that_fails_marks_the_run_as_failed(attach, tmp_path) -> None:
    model = model_that_changes()
    watch = attach(model)
    error = ValueError("diverged")
    with pytest.raises(ValueError, match="diverged") as caught, watch:  # noqa: PT012
        steps(watch, model, 2)
        raise error
    assert caught.value is error
    found = outcome(tmp_path)
    assert found is not None
    assert (found.state, found.cause, found.steps) == ("failed", "ValueError: diverged", 1)
    assert pipeline.load(tmp_path / "mine")["step"].tolist() == [0, 1]


@pytest.mark.parametrize(("last", "state"), [(None, "finished"), (ValueError("diverged"), "failed")])
def test_what_nobody_closes_is_closed_when_the_process_ends(
    attach, tmp_path, monkeypatch: pytest.MonkeyPatch, caplog, last: Exception | None, state: str
) -> None:
    model = model_that_changes()
    watch = attach(model)
    steps(watch, model)
    monkeypatch.delattr(sys, "ps1", raising=False)
    monkeypatch.setattr(sys, "last_value", last, raising=False)
    del watch
    watching._close_all()
    assert "attach: close() has not been called, so it is done now; use attach()" in caplog.text
    assert ended_as(tmp_path) == state
    assert pipeline.load(tmp_path / "mine")["state"].unique().tolist() == ["measured"]
    assert watching._open == {}


def test_a_fork_closes_nothing(attach) -> None:
    watch = attach(model_that_changes())
    watch.process = -1
    watching._close_all()
    assert not watch.closed


def test_a_cell_run_again_closes_what_it_left_open(attach, caplog) -> None:
    model = model_that_changes()
    first = attach(model)
    first(0)
    second = attach(model)
    assert (first.closed, second.closed) == (True, False)
    assert "was still watched by an earlier attach() of this process" in caplog.text
    second.close()


def test_names_that_tables_or_mlflow_would_not_take_are_changed(attach, tmp_path) -> None:
    model = model_that_changes()
    values = {"acc@5": 1.0, "entropy": 2.0, "loss": 3.0, "train_loss": 4.0, "test_loss": 5.0, "test_acc@1": 6.0}
    with attach(model) as watch:
        steps(watch, model, **values, **{"acc 5": 7.0, "acc/5": 8.0, "acc_5": 9.0})
    found = pipeline.load(tmp_path / "mine", "history").set_index(["split", "variable"])["value"].to_dict()
    assert found == {
        ("train", "acc_5"): 1.0, ("train", "loop_entropy"): 2.0, ("train", "loss"): 3.0, ("train", "train_loss"): 4.0,
        ("test", "loss"): 5.0, ("test", "acc_1"): 6.0, ("train", "acc 5"): 7.0, ("train", "acc/5"): 8.0,
        ("train", "acc_5_2"): 9.0,
    }  # fmt: skip
    assert len(watch.troubles) == 5
    assert watch.troubles[0].startswith("acc@5 is recorded as acc_5 of the train split: names hold letters, digits")


def test_values_that_are_no_number_are_told_and_left_out(attach, tmp_path) -> None:
    model = model_that_changes()
    with attach(model) as watch:
        steps(watch, model, loss=torch.tensor([1.0, 2.0]), note="a", big=torch.tensor(1e300, dtype=torch.float64))
    assert [trouble.partition(",")[0] for trouble in watch.troubles] == ["loss: got Tensor", "note: got str"]
    assert pipeline.load(tmp_path / "mine", "history")["variable"].unique().tolist() == ["big"]


@pytest.mark.parametrize("step", [1, 5, -1, 1.5, "two"])
def test_steps_that_cannot_be_are_told_and_left_out(attach, tmp_path, step: Any) -> None:
    model = model_that_changes()
    with attach(model) as watch:
        steps(watch, model, 3)
        watch(step)
        watch(torch.tensor(3))
        nn.init.zeros_(model.weight)
    (trouble,) = watch.troubles
    assert trouble.startswith(f"watch({step}) after 2, expected steps that rise from 0 to 4: it is left out")
    assert pipeline.load(tmp_path / "mine")["step"].tolist() == [0, 1, 2, 3, 4]


class Broken(Storage):
    """Takes nothing while `refuses` is not empty."""

    refuses: tuple[str, ...] = ()

    def write(self, name: str, data: bytes) -> None:
        if any(part in name for part in Broken.refuses):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(name, data)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> type[Broken]:
    monkeypatch.setattr(attached, "Storage", Broken)
    monkeypatch.setattr(Broken, "refuses", ())
    return Broken


def test_a_full_disk_costs_only_what_it_did_not_take(attach, tmp_path, broken, caplog) -> None:
    model = model_that_changes()
    with attach(model, steps=40) as watch:
        for step in range(40):
            broken.refuses = ("/snapshots/",) if 10 <= step < 20 else ()
            watch(step, loss=float(step))
            recorder = watch._attempt._recorder  # what was taken is to reach storage, or to fail there
            while recorder is not None and recorder._thread.is_alive() and recorder._free.qsize() < 2:
                recorder._thread.join(0.001)
            with torch.no_grad():
                model.weight += 0.1
    measured = pipeline.load(tmp_path / "mine")["step"].tolist()
    assert {*range(10), *range(22, 41)} <= {*measured}
    assert not {*range(11, 19)} & {*measured}
    assert ended_as(tmp_path) == "finished"
    assert [line for line in watch.troubles if "No space left" in line] == [
        "OSError: [Errno 28] No space left on device; training goes on, recording is tried again"
    ]
    assert len(caplog.messages) == len(watch.troubles)


def test_storage_that_takes_nothing_any_more_ends_no_loop(attach, broken) -> None:
    model = model_that_changes()
    watch = attach(model)
    broken.refuses = ("",)
    steps(watch, model)
    watch.close()
    assert InProcess.latest.ended[-1] == "left"
    assert any("No space left" in line for line in watch.troubles)


def test_a_newer_launch_ends_the_recording_and_not_the_loop(attach, monkeypatch: pytest.MonkeyPatch) -> None:
    def fenced(self: Launch) -> None:
        raise Fenced("launch 1 has been taken over by a newer one")

    model = model_that_changes()
    watch = attach(model)
    monkeypatch.setattr(Launch, "check", fenced)
    steps(watch, model)
    watch.close()
    assert "Fenced: launch 1 has been taken over by a newer one; nothing more is recorded, training goes on" in (
        watch.troubles
    )


def gone(*args: Any) -> None:
    raise ConnectionError("the cluster is gone")


@pytest.mark.parametrize("part", ["notice", "drain", "finish_tracking", "leave"])
def test_a_cluster_that_dies_ends_no_loop(attach, tmp_path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(InProcess, part, gone)
    model = model_that_changes()
    with attach(model) as watch:
        steps(watch, model)
    assert any("the cluster is gone" in line for line in watch.troubles)
    assert pipeline.load(tmp_path / "mine", "snapshots")["step"].tolist() == [0, 1, 2, 3, 4]
    assert ended_as(tmp_path) == "finished"
    assert len(pipeline.load(tmp_path / "mine")) == (0 if part == "drain" else 5)


def test_a_hub_that_says_nothing_is_waited_for_no_longer_than_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: clock[0])
    wait = watching._Wait(attached.Teller(quiet=True), lambda: None, None)
    wait(HubStatus(waiting=1, in_hand=1))
    clock[0] = 59.0
    wait(NO_ANSWER)
    clock[0] = 61.0
    with pytest.raises(ConnectionError, match="has not answered for 60 s"):
        wait(NO_ANSWER)


def test_somebody_who_asks_it_to_stop_stops_the_loop(attach, tmp_path) -> None:
    model = model_that_changes()

    def endless(watch: Any) -> None:
        while True:
            watch(1)

    with pytest.raises(Stopped, match="stopped on request after 1 of 4 steps"), attach(model) as watch:  # noqa: PT012
        watch(0)
        assert ask_to_stop(Storage.at(tmp_path / "mine"))
        endless(watch)
    assert ended_as(tmp_path) == "stopped"


def test_values_that_fail_are_counted_by_variable_and_leave_the_others(attach, tmp_path, caplog) -> None:
    class Narrow(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found = super().forward(x)
            return found if self.weight.abs().max() < 0.9 else found[:, :1]

    model = Narrow(3, 2)
    nn.init.zeros_(model.weight)
    with attach(model, variables=["trace", "label_alignment"], steps=20) as watch:
        steps(watch, model, 20)
    rows = pipeline.load(tmp_path / "mine")
    failed = rows.loc[rows["state"] == "failed"]
    assert failed["variable"].unique().tolist() == ["label_alignment"]
    assert rows.loc[rows["variable"] == "trace", "state"].unique().tolist() == ["measured"]
    assert (watch.failed["label_alignment"].count, watch.failed["label_alignment"].total) == (len(failed), 21)
    assert (
        f"attach: {len(failed)} of 42 values could not be measured: label_alignment: {len(failed)} of 21 values "
        in (caplog.text.replace("WARNING  tangentscope.attach:notices.py:28 ", ""))
    )
    assert "is no class of 1" in watch.failed["label_alignment"].cause


def test_everything_is_logged_as_one_logger(attach, caplog) -> None:
    logging.getLogger("tangentscope.attach").setLevel(logging.ERROR)
    try:
        with attach(model_that_changes()) as watch:
            watch(9)
    finally:
        logging.getLogger("tangentscope.attach").setLevel(logging.NOTSET)
    assert (len(watch.troubles), caplog.messages) == (1, [])
