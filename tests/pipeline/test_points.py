from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from study_on_disk import small_study

from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.points import read_points
from tangentscope.pipeline.study.points import store_points
from tangentscope.pipeline.system.errors import UserError
from tangentscope.probes import draw_indices


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


def test_points_are_drawn_once(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, runs = small_study()
    store_points(storage, runs)
    names = [layout.points(probe.id) for probe in runs[0].probes]
    before = [storage.read(name) for name in names]
    again = Storage.at(tmp_path / "again")
    store_points(again, runs)
    assert [again.read(name) for name in names] == before, "the same on every machine"
    written: list[str] = []
    real = Storage.write
    monkeypatch.setattr(Storage, "write", lambda self, name, data: written.append(name) or real(self, name, data))
    assert store_points(storage, runs) == written == []


def test_another_seed_draws_others(storage: Storage):
    found = []
    for seed in (0, 1):
        _, runs = small_study(f"probes.kernel.seed={seed}")
        store_points(storage, runs)
        found.append(read_points(storage, runs[0].probes[0].id)["indices"])
    assert not torch.equal(*found)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def test_what_is_damaged_or_of_another_probe_is_refused_and_drawn_again(storage: Storage):
    _, runs = small_study()
    store_points(storage, runs)
    test, train = (layout.points(probe.id) for probe in runs[0].probes)
    good, other = storage.read(test), storage.read(train)
    tensors = safetensors.torch.load(good)
    a_mantissa_bit = {**tensors, "inputs": tensors["inputs"].clone()}
    a_mantissa_bit["inputs"].view(torch.int32).reshape(-1)[7] ^= 1
    bad = {
        "of the other split": (other, "foreign"),
        "the last bit": (flipped(good, 8 * len(good) - 1), "damaged"),
        "cut short": (good[:-1], "damaged"),
        "nothing": (b"", "damaged"),
        "a mantissa bit, without metadata": (safetensors.torch.save(a_mantissa_bit), "damaged"),
    }
    for kind, (data, fault) in bad.items():
        storage.write(test, data)
        if "without metadata" not in kind:
            with pytest.raises(UserError, match=f"^{test}: {fault} .*; run the study again"):
                read_points(storage, runs[0].probes[0].id)
        [line] = store_points(storage, runs)
        assert line.startswith(f"{test}: {fault} ("), kind
        assert line.endswith("; drawn again from the data")
        assert storage.read(test) == good
        assert storage.read(f"{test}.{fault}") == data
    assert store_points(storage, runs) == []


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_flipped_bit_of_points_is_seen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    storage, (_, runs) = Storage.at(tmp_path_factory.getbasetemp() / "points"), small_study()
    probe = runs[0].probes[0].id
    storage.remove(layout.points(probe))
    store_points(storage, runs)
    good, points = storage.read(layout.points(probe)), read_points(storage, probe)
    storage.write(layout.points(probe), flipped(good, data.draw(st.integers(0, 8 * len(good) - 1))))
    try:
        found = read_points(storage, probe)
    except UserError:
        return
    assert all(torch.equal(found[name], points[name]) for name in points)  # padding


def test_points_of_an_older_version_are_read_and_get_a_checksum(storage: Storage):
    _, runs = small_study()
    store_points(storage, runs)
    probe = runs[0].probes[0].id
    file = layout.points(probe)
    good = storage.read(file)
    storage.write(file, safetensors.torch.save(safetensors.torch.load(good)))
    assert torch.equal(read_points(storage, probe)["draws"], safetensors.torch.load(good)["draws"])
    assert store_points(storage, runs) == []
    assert storage.read(file) == good
