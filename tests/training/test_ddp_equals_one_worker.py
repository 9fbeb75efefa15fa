"""Two and three real gloo workers against one, on the same global batches."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from training_cases import RUN, Choosy, Dense, checksums, points, states, training

from tangentscope.pipeline.config.optimisers import SGD
from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch
from tangentscope.pipeline.training.learner import Training, World, initialise
from tangentscope.pipeline.training.loop import train
from tangentscope.pipeline.training.recorder import Recorder
from tangentscope.tasks import TaskData

# Points, batch size: the last batch of an epoch has 2 points (none for the third worker), 1 point, 7 like all others.
CASES = {"empty shard": (50, 16), "one point left": (43, 7), "divides": (42, 7)}
WORLDS = (3, 2)
SAVED = 17


def a_case(case: str) -> tuple[Training, TaskData]:
    count, batch_size = CASES[case]
    data = points(count, dtype=torch.float32)
    optimiser = SGD(lr=0.1, momentum=0.5, weight_decay=0.01)
    few = frozenset({0, 1, 20, 36})
    what = training(data, 9, batch_size, model=Dense(double=False), optimiser=optimiser, schedule=few, evaluations=few)
    return replace(what, steps=36), data


def one_run(case: str, world: World, place: Path, resume: bool = False) -> dict[str, torch.Tensor]:
    what, data = a_case(case)
    storage = Storage.at(place)
    wrap: Any = DistributedDataParallel if world.size > 1 else lambda module: module
    checkpoint = storage.read(run_files.newest_checkpoint(storage, RUN)[1]) if resume else None
    if world.rank:
        module, _ = train(what, data, None, world, wrap, checkpoint)
        return dict(module.state_dict())
    resumed_at, cls = (SAVED, Recorder) if resume else (0, Choosy)
    network = initialise(what, data, torch.device("cpu"))
    with cls(Launch(storage, 1), RUN, 1 + resume, what.epoch_steps, resumed_at, network) as recorder:
        recorder.at = frozenset({SAVED})
        module, _ = train(what, data, recorder, world, wrap, checkpoint, 1e9 if resume else -1)
    return dict(module.state_dict())


def worker(rank: int, place: Path) -> None:
    torch.set_num_threads(1)
    for size in WORLDS:
        if rank >= size:
            continue
        dist.init_process_group("gloo", init_method=f"file://{place}/meet-{size}", rank=rank, world_size=size)
        world = World(rank, size)
        for case in CASES:
            state = one_run(case, world, place / f"{case}-{size}")
            torch.save(state, place / f"{case}-{size}-{rank}.pt")
            dist.barrier()  # the checkpoint of rank 0 is on storage
            torch.save(
                one_run(case, world, place / f"{case}-{size}", resume=True), place / f"{case}-{size}-{rank}-resumed.pt"
            )
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the workers have left their parameters and the study's files."""
    found = tmp_path_factory.mktemp("workers")
    # Fresh processes, as by spawn, but what takes seconds to import is imported once for all.
    torch.multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["tangentscope.pipeline.training.loop", "torch._dynamo"]
    )
    torch.multiprocessing.start_processes(worker, (found,), nprocs=max(WORLDS), start_method="forkserver")
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, torch.Tensor], Storage]]:
    places = {case: tmp_path_factory.mktemp("alone") for case in CASES}
    return {case: (one_run(case, World(), path), Storage.at(path)) for case, path in places.items()}


def distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Relative, over all parameters together."""
    assert found.keys() == expected.keys()
    flat = [torch.cat([state[name].reshape(-1) for name in expected]) for state in (found, expected)]
    return ((flat[0] - flat[1]).norm() / flat[1].norm()).item()


@pytest.mark.parametrize("size", WORLDS)
@pytest.mark.parametrize("case", CASES)
def test_equals_one_worker(case: str, size: int, place: Path, alone: Any) -> None:
    expected, storage = alone[case]
    ranks = [torch.load(place / f"{case}-{size}-{rank}.pt") for rank in range(size)]
    assert distance(ranks[0], expected) <= 1e-5
    assert all(torch.equal(other[name], ranks[0][name]) for other in ranks[1:] for name in expected)
    found, snapshots = states(Storage.at(place / f"{case}-{size}")), states(storage)
    assert sorted(found) == sorted(snapshots) == [0, 1, 20, 36]
    for step, state in snapshots.items():
        assert set(found[step]) == {"0.bias", "0.weight", "2.bias", "2.weight"}
        assert distance(found[step], state) <= 1e-5
    assert distance(snapshots[0], snapshots[36]) > 0.1  # they did learn


@pytest.mark.parametrize("case", CASES)
def test_resumed_by_two_workers_to_the_last_bit(case: str, place: Path) -> None:
    whole, resumed = (torch.load(place / f"{case}-2-0{end}.pt") for end in ("", "-resumed"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    storage = Storage.at(place / f"{case}-2")
    assert not run_files.replays(storage, RUN)
    assert len(storage.list(f"runs/{RUN}/snapshots")) == len(checksums(storage)) == 4


@pytest.mark.parametrize("case", CASES)
def test_resumed_by_three_workers_to_rounding(case: str, place: Path) -> None:
    # DDP arranges the gradients anew after its first step, and three numbers have more than one sum.
    whole, resumed = (torch.load(place / f"{case}-3-0{end}.pt") for end in ("", "-resumed"))
    assert distance(resumed, whole) <= 1e-5
    assert sorted(checksums(Storage.at(place / f"{case}-3"))) == [0, 1, 20, 36]
