"""An attempt at a run: how it begins, what it resumes from, and what is told of its end."""

import io
import pickle
from dataclasses import asdict

import pytest
import torch
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from on_storage import attempts, checkpoint, outcome, weights
from training_cases import RUN

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.checkpoints import checkpoint_fault, seal_checkpoint
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.store.outcome import Ending
from tangentscope.pipeline.system.errors import Fenced
from tangentscope.pipeline.training.attempts import DEATHS, begin, end, read_checkpoint
from tangentscope.pipeline.training.learner import World


def test_attempts_count_up_over_launches(storage: Storage) -> None:
    starts = [begin(Launch(storage, epoch), RUN) for epoch in (1, 1, 2)]
    assert [start.attempt for start in starts] == [1, 2, 3]
    assert [start.launch for start in starts] == [1, 1, 2]
    assert attempts(storage) == [asdict(start) for start in starts]
    assert storage.list(f"runs/{RUN}/attempts") == ["0001.json", "0002.json", "0003.json"]
    assert [(start.resumed_at, start.checkpoint) for start in starts] == [(0, None)] * 3
    assert outcome(storage) is None


def test_a_run_current_at_two_deaths_is_failed_and_passed_over(storage: Storage) -> None:
    launch = Launch(storage, 3)
    assert all(begin(launch, RUN) for _ in range(DEATHS))
    assert begin(launch, RUN) is None
    assert len(attempts(storage)) == DEATHS == 2
    found = outcome(storage)
    assert found["state"] == "failed"
    assert "died 2 times" in found["cause"]
    assert begin(launch, RUN) is None
    assert outcome(storage) == found


def test_deaths_of_an_earlier_launch_do_not_count(storage: Storage) -> None:
    for epoch in (1, 1, 2, 4, 4):
        assert begin(Launch(storage, epoch), RUN) is not None
    assert outcome(storage) is None
    assert begin(Launch(storage, 4), RUN) is None
    assert outcome(storage)["state"] == "failed"


@pytest.mark.parametrize(
    ("starts", "ended"),
    [
        ((0, 0), False),  # died once, and then with what the group needs
        ((0, 1, 2, 3), False),  # whatever carries it dies again and again
        ((0, 1, 1), True),
        ((0, 0, 1), True),
    ],
)
def test_who_dies_with_what_carried_the_group_is_not_to_blame(
    starts: tuple[int, ...], ended: bool, storage: Storage
) -> None:
    for number, start in enumerate(starts):
        record = {"attempt": number + 1, "launch": 1, "start": start}
        storage.write_json(f"runs/{RUN}/attempts/{number + 1:04d}.json", record)
    last = starts[-1] + (not ended)
    begun = begin(Launch(storage, 1), RUN, start=last)
    assert (begun is None) == ended == (outcome(storage) is not None)


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_a_run_that_has_ended_is_left_alone(state: str, storage: Storage) -> None:
    storage.write_json(run_files.outcome(RUN), {"state": state})
    assert begin(Launch(storage, 1), RUN) is None
    assert attempts(storage) == []
    assert outcome(storage) == {"state": state}


def test_nothing_starts_once_the_launch_is_to_stop(storage: Storage) -> None:
    launch = Launch(storage, 1)
    launch.stop()
    assert begin(launch, RUN) is None
    assert attempts(storage) == []
    assert outcome(storage) is None


def test_it_resumes_from_the_latest_attempts_latest_checkpoint(storage: Storage) -> None:
    for step, attempt in ((900, 1), (20, 2), (40, 2)):
        storage.write(run_files.checkpoint(RUN, step, attempt), checkpoint(step))
    storage.write(f"runs/{RUN}/checkpoints/notes.txt", b"")
    start = begin(Launch(storage, 1), RUN)
    assert (start.resumed_at, start.checkpoint) == (40, run_files.checkpoint(RUN, 40, 2))
    assert torch.load(io.BytesIO(read_checkpoint(storage, start)), weights_only=True)["step"] == 40


def older(state: bytes) -> bytes:
    """A checkpoint's file as older versions wrote it."""
    return state + xxhash.xxh3_64_digest(state)


BAD = {
    "empty": (b"", "damaged"),
    "cut short": (checkpoint(40)[:-1], "damaged"),
    "a bit": (b"t" + checkpoint(40)[1:], "damaged"),
    "of another run": (checkpoint(40, "another"), "foreign"),
    "of another step": (checkpoint(30), "foreign"),
    "of an older version and another step": (older(weights(30)), "foreign"),
    "no weights": (seal_checkpoint(b"what is this", RUN, 40), "damaged"),
    "no weights, of an older version": (older(pickle.dumps({"step": 40})), "damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_checkpoint_that_will_not_do_gives_way_to_an_older_one_or_to_the_start(
    kind: str, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    data, fault = BAD[kind]
    storage.write(run_files.checkpoint(RUN, 20, 1), checkpoint(20))
    storage.write(run_files.checkpoint(RUN, 40, 1), data)
    start = begin(Launch(storage, 1), RUN)
    assert (start.resumed_at, start.checkpoint) == (20, run_files.checkpoint(RUN, 20, 1))
    assert f"{run_files.checkpoint(RUN, 40, 1)}: {fault}" in caplog.text
    assert "weights_only" not in caplog.text
    assert storage.read(f"{run_files.checkpoint(RUN, 40, 1)}.{fault}") == data
    storage.remove(run_files.checkpoint(RUN, 20, 1))
    storage.write(run_files.checkpoint(RUN, 40, 1), data)
    start = begin(Launch(storage, 2), RUN)
    assert (start.resumed_at, start.checkpoint, read_checkpoint(storage, start)) == (0, None, None)


def test_a_checkpoint_of_an_older_version_is_resumed_from(storage: Storage) -> None:
    storage.write(run_files.checkpoint(RUN, 40, 1), older(weights(40)))
    start = begin(Launch(storage, 1), RUN)
    assert start.resumed_at == 40
    assert read_checkpoint(storage, start) == weights(40)


def test_any_flipped_bit_of_a_checkpoint_is_seen(storage: Storage) -> None:
    good, file = checkpoint(40), run_files.checkpoint(RUN, 40, 1)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 8 * len(good) - 1))
    def flipped(bit: int) -> None:
        data = bytearray(good)
        data[bit // 8] ^= 1 << (bit % 8)
        storage.write(file, bytes(data))
        assert checkpoint_fault(storage, RUN, 40, file) is not None

    flipped()


def test_an_older_launch_neither_starts_nor_ends_a_run(storage: Storage) -> None:
    launch = Launch(storage, 1)
    start = begin(launch, RUN)
    storage.create("launches/000002.json", b"{}")
    with pytest.raises(Fenced):
        begin(launch, RUN)
    with pytest.raises(Fenced):
        end(launch, start, World(), Ending("finished"))
    assert attempts(storage) == [asdict(start)]
    assert outcome(storage) is None


def test_an_outcome_says_how_who_and_how_long(storage: Storage) -> None:
    start = begin(Launch(storage, 1), RUN)
    end(Launch(storage, 1), start, World(size=3), Ending("finished", costs={"steps": 7}))
    found = outcome(storage)
    assert found.items() >= {"state": "finished", "cause": None, "steps": 7, "workers": 3, "device": "cpu"}.items()
    assert {key: found[key] for key in ("attempt", "started_at", "host")} == {
        key: getattr(start, key) for key in ("attempt", "started_at", "host")
    }
    assert found["ended_at"] >= found["started_at"]
    assert found["seconds"] >= 0


def test_a_run_that_was_stopped_does_notbegin(storage: Storage) -> None:
    storage.write(run_files.stop(RUN), b"")
    assert begin(Launch(storage, 1), RUN) is None
    found = outcome(storage)
    assert found is not None
    assert (found["state"], found["cause"], attempts(storage)) == ("stopped", "stopped on request", [])
    storage.remove(run_files.outcome(RUN))
    storage.remove(run_files.stop(RUN))
    assert begin(Launch(storage, 2), RUN).attempt == 1
