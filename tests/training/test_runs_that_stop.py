"""One run of a group is asked to stop; and what a run says while it trains is kept."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_storage import attempts, outcome, states

from tangentscope.pipeline.cluster import worker
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.system import logs


@pytest.fixture
def during(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], None]], None]:
    """Lets something happen in the second run after its third snapshot."""
    plain = worker.Recorder.snapshot

    def arrange(happens: Callable[[Any], None]) -> None:
        def snapshot(self: worker.Recorder, step: int, module: torch.nn.Module, **how: Any) -> None:
            plain(self, step, module, **how)
            if self.run == runs[1] and step == 2:
                happens(self)

        monkeypatch.setattr(worker.Recorder, "snapshot", snapshot)

    return arrange


def asked_to_stop(recorder: Any) -> None:
    recorder.launch.storage.write(run_files.stop(recorder.run), b"")
    recorder.stopping = True  # as its thread will see within a second


def test_a_run_that_is_stopped_ends_alone_with_a_checkpoint(storage: Storage, runs: list[str], group: Any, during: Any):
    during(asked_to_stop)
    group()
    assert states(storage, runs) == ["finished", "stopped", "finished"]
    assert run_files.newest_checkpoint(storage, runs[1])[0] == 2
    assert outcome(storage, runs[1])["cause"] == "stopped on request"

    during(lambda recorder: None)
    group(epoch=2)
    assert states(storage, runs) == ["finished", "stopped", "finished"], "until somebody retries it"
    storage.remove(run_files.outcome(runs[1]))
    storage.remove(run_files.stop(runs[1]))
    group(epoch=3)
    assert states(storage, runs) == ["finished"] * 3
    assert [attempt["resumed_at"] for attempt in attempts(storage, runs[1])] == [0, 2]


def test_a_launch_that_stops_ends_no_run(storage: Storage, runs: list[str], group: Any, during: Any):
    def both(recorder: Any) -> None:
        Launch(storage, 1).stop()
        asked_to_stop(recorder)

    during(both)
    group()
    assert states(storage, runs) == ["finished", None, None]
    assert run_files.newest_checkpoint(storage, runs[1])[0] == 2
    assert attempts(storage, runs[2]) == []


def test_the_recorder_sees_that_its_run_is_to_stop(storage: Storage, recorder_of: Any):
    with recorder_of(torch.nn.Linear(1, 1)) as recorder:
        storage.write(run_files.stop(recorder.run), b"")
        while not recorder.stopping:
            recorder._raise()


def test_what_a_run_prints_and_logs_is_kept(storage: Storage, runs: list[str], group: Any, during: Any, capsys):
    def talk(recorder: Any) -> None:
        print("half way")
        print("rather slow", file=sys.stderr)
        logging.getLogger("mine").warning("very slow")
        raise ValueError("broke")

    during(talk)
    group()
    assert states(storage, runs) == ["finished", "failed", "finished"]
    said = storage.read(f"runs/{runs[1]}/attempts/0001.log").decode()
    assert "half way\n" in said
    assert "rather slow" in said
    assert "WARNING mine: very slow" in said
    assert not storage.exists(f"runs/{runs[0]}/attempts/0001.log"), "which said nothing"
    assert "half way\n" in capsys.readouterr().out, "it appears where it did before, too"


def test_of_a_long_log_the_last_lines_are_kept():
    tail = logs.Tail(most=20)
    for line in ("one", "two", "three", "four"):
        print(line, file=tail)
    assert tail.text == "one\ntwo\nthree\nfour\n"
    print("five", file=tail)
    assert tail.text == "three\nfour\nfive\n"


def test_streams_are_as_before_afterwards():
    before = sys.stdout, sys.stderr, list(logging.getLogger().handlers)
    with pytest.raises(RuntimeError), logs.kept():
        raise RuntimeError
    assert (sys.stdout, sys.stderr, logging.getLogger().handlers) == before
