from pathlib import Path

import pytest
import torch
from study_on_disk import small_study

from pipeline import layout
from pipeline.points import read_points, store_points
from pipeline.storage import Storage
from probes import draw_indices


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path)


def test_points_are_drawn_from_the_split_and_lie_there_with_their_places(storage: Storage):
    _, runs = small_study("probes.kernel={draws: 3, size: 5}")
    store_points(storage, runs)
    assert len(storage.list("points")) == 2
    for probe in runs[0].probes:
        found = read_points(storage, probe.id)
        split = getattr(runs[0].data, probe.split)
        drawn = torch.as_tensor(draw_indices(len(split), 3, 5, seed=0))
        assert torch.equal(found["indices"][found["draws"]], drawn)
        assert len(set(found["indices"].tolist())) == len(found["indices"]) <= 15, "each point lies there once"
        assert torch.equal(found["inputs"], split.inputs[found["indices"]])
        assert torch.equal(found["targets"], split.targets[found["indices"]])


def test_points_of_several_draws_are_stored_once(storage: Storage):
    _, runs = small_study("probes.kernel={draws: 20, size: 30}")
    store_points(storage, runs)
    [probe] = [probe for probe in runs[0].probes if probe.split == "test"]
    found = read_points(storage, probe.id)
    assert found["draws"].shape == (20, 30)
    assert len(found["inputs"]) == len(found["targets"]) == len(runs[0].data.test) == 32


def test_points_are_drawn_once(storage: Storage, tmp_path: Path):
    _, runs = small_study()
    store_points(storage, runs)
    names = [layout.points(probe.id) for probe in runs[0].probes]
    before = [storage.read(name) for name in names]
    again = Storage.at(tmp_path / "again")
    store_points(again, runs)
    assert [again.read(name) for name in names] == before, "the same on every machine"
    storage.write(names[0], b"as they were")
    store_points(storage, runs)
    assert storage.read(names[0]) == b"as they were"


def test_another_seed_draws_others(storage: Storage):
    found = []
    for seed in (0, 1):
        _, runs = small_study(f"probes.kernel.seed={seed}")
        store_points(storage, runs)
        found.append(read_points(storage, runs[0].probes[0].id)["indices"])
    assert not torch.equal(*found)
