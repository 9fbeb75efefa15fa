"""A run that starts again comes by the same snapshots, or else takes the place of what came after them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from training_cases import RUN, checksums, filled, history, publish_plan

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import Notice, SnapshotName
from tangentscope.pipeline.store.reader import Store

STEPS = (0, 10, 20, 30)


@pytest.fixture
def attempt(recorder_of: Callable[..., Any]) -> Callable[..., list[SnapshotName]]:
    """Runs one attempt, with rows and a snapshot at each step, all its parameters `values(step)`; gives its notices."""
    network = nn.Linear(2, 2)

    def run(
        number: int, values: Callable[[int], float], steps: tuple[int, ...] = STEPS, resumed_at: int = 0
    ) -> list[SnapshotName]:
        notices: list[Notice] = []
        with recorder_of(network, attempt=number, resumed_at=resumed_at, notify=notices.append) as recorder:
            for step in steps:
                recorder.row(step, "train", "loss", 100.0 * number + step)
                recorder.row(step + 5, "train", "loss", 100.0 * number + step + 5)
                recorder.snapshot(step, filled(network, values(step)))
        assert all(notice.run == RUN for notice in notices)
        return [notice.name for notice in notices]

    return run


def files(storage: Storage) -> dict[str, bytes]:
    return {name: storage.read(f"runs/{RUN}/snapshots/{name}") for name in storage.list(f"runs/{RUN}/snapshots")}


def attempts(storage: Storage) -> dict[int, int]:
    return {name.step: name.attempt for name in run_files.current_snapshots(storage, RUN)}


def losses(storage: Storage) -> dict[int, float]:
    return {step: value for (step, _, _), value in history(storage).items()}


def same(step: int) -> float:
    return float(step)


def other_after(last: int) -> Callable[[int], float]:
    return lambda step: float(step if step <= last else -step)


def test_an_equal_replay_leaves_the_files_and_notices_again(storage: Storage, attempt) -> None:
    first = attempt(1, same)
    before = files(storage)
    again = attempt(2, same)
    assert files(storage) == before
    assert again == first
    assert run_files.replays(storage, RUN) == {}
    assert losses(storage) == {s + d: 200.0 + s + d for s in STEPS for d in (0, 5)}
    publish_plan(storage)
    assert Store(storage).snapshots()["attempt"].tolist() == [2] * 4  # what the replay cost training


@pytest.mark.parametrize(("agreed", "last"), [(0, 0), (10, 10), (20, 25)])
def test_a_diverging_replay_supersedes_what_came_after(agreed: int, last: int, storage: Storage, attempt) -> None:
    attempt(1, same)
    before = files(storage)
    attempt(2, other_after(last))
    assert run_files.replays(storage, RUN) == {2: agreed}
    assert attempts(storage) == {step: 1 if step <= agreed else 2 for step in STEPS}
    assert before.items() <= files(storage).items()  # nothing is deleted
    assert len(files(storage)) == 4 + sum(step > agreed for step in STEPS)


def test_rows_after_the_last_agreement_are_dropped_also_where_the_new_attempt_has_none_yet(
    storage: Storage, attempt
) -> None:
    attempt(1, same)
    found = attempt(2, other_after(10), steps=(10, 20), resumed_at=10)
    assert [(name.step, name.attempt) for name in found] == [(10, 1), (20, 2)]
    assert run_files.replays(storage, RUN) == {2: 10}
    assert attempts(storage) == {0: 1, 10: 1, 20: 2}  # the predecessor's snapshot of step 30 is of another trajectory
    assert losses(storage) == {0: 100, 5: 105, 10: 210, 15: 215, 20: 220, 25: 225}


def test_a_replay_from_a_checkpoint_agrees_up_to_it(storage: Storage, attempt) -> None:
    attempt(1, same)
    attempt(2, other_after(15), steps=(20, 30), resumed_at=15)
    assert run_files.replays(storage, RUN) == {2: 15}
    assert attempts(storage) == {0: 1, 10: 1, 20: 2, 30: 2}
    # The predecessor's row of step 15 stays, for that step is the checkpoint's; those of 20 to 35 do not.
    assert losses(storage) == {0: 100, 5: 105, 10: 110, 15: 115, 20: 220, 25: 225, 30: 230, 35: 235}


def test_the_record_is_there_before_the_new_trajectory(storage: Storage, attempt, monkeypatch) -> None:
    attempt(1, same)
    order: list[str] = []
    plain = Storage.write

    def write(self: Storage, name: str, data: bytes) -> None:
        order.append(name)
        plain(self, name, data)

    monkeypatch.setattr(Storage, "write", write)
    attempt(2, other_after(10))
    ours = [name.split("/")[2] for name in order if name.startswith(f"runs/{RUN}")]
    assert ours == ["replays", "snapshots", "snapshots"]


def test_a_third_attempt_is_compared_with_the_second(storage: Storage, attempt) -> None:
    attempt(1, same)
    attempt(2, other_after(10))
    second = checksums(storage)
    attempt(3, other_after(10), steps=(20, 30), resumed_at=20)
    assert checksums(storage) == second
    assert attempts(storage) == {0: 1, 10: 1, 20: 2, 30: 2}
    attempt(4, lambda step: float(step if step <= 20 else 7), steps=(20, 30), resumed_at=15)
    assert run_files.replays(storage, RUN) == {2: 10, 4: 15}
    assert attempts(storage) == {0: 1, 10: 1, 20: 4, 30: 4}
    assert losses(storage)[15] == 215


def test_only_the_first_snapshot_was_there(storage: Storage, attempt) -> None:
    attempt(1, same, steps=(0,))
    attempt(2, other_after(-1))
    assert run_files.replays(storage, RUN) == {}
    assert attempts(storage) == dict.fromkeys(STEPS, 2) | {0: 1}


def test_a_denser_schedule_or_a_lost_file_is_no_divergence(storage: Storage, attempt) -> None:
    first = attempt(1, same)
    storage.remove(run_files.snapshot(RUN, first[2]))
    attempt(2, same, steps=(0, 3, 10, 20, 30))
    assert run_files.replays(storage, RUN) == {}
    assert attempts(storage) == {0: 1, 3: 2, 10: 1, 20: 2, 30: 1}


def test_divergence_between_new_steps_is_found_at_the_next_known_one(storage: Storage, attempt) -> None:
    attempt(1, same)
    attempt(2, other_after(10), steps=(0, 10, 14, 18, 20, 30))
    assert run_files.replays(storage, RUN) == {2: 10}
    assert attempts(storage) == {0: 1, 10: 1, 14: 2, 18: 2, 20: 2, 30: 2}


def test_another_schedule_that_passes_known_steps_by_cannot_vouch_for_them(storage: Storage, attempt) -> None:
    attempt(1, same, steps=(0, 10, 20))
    attempt(2, other_after(0), steps=(0, 7, 14, 30))
    assert run_files.replays(storage, RUN) == {2: 0}
    assert attempts(storage) == {0: 1, 7: 2, 14: 2, 30: 2}


def test_a_freed_snapshot_is_compared_and_written_again(storage: Storage, attempt) -> None:
    first = attempt(1, same)
    for name in first:
        storage.write(run_files.snapshot(RUN, SnapshotName(name.step, 1, name.checksum, freed=True)), b"")
        storage.remove(run_files.snapshot(RUN, name))
    attempt(2, other_after(20))
    assert run_files.replays(storage, RUN) == {2: 20}
    current = run_files.current_snapshots(storage, RUN)
    assert [(name.step, name.attempt, name.freed) for name in current] == [(step, 2, False) for step in STEPS]


def test_a_snapshots_name_tells_trajectories_apart_by_a_single_bit(storage: Storage, attempt) -> None:
    one = 1.0
    next_one = torch.nextafter(torch.tensor(one), torch.tensor(2.0)).item()
    attempt(1, lambda step: one)
    attempt(2, lambda step: one if step < 30 else next_one)
    assert run_files.replays(storage, RUN) == {2: 20}
