"""Snapshot files: checksums over every bit, verification on reading, plain names, no pickles."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training_cases import RUN, Dense, Evil, Noisy, points, training

from tangentscope.pipeline.store import run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.layout import SnapshotName
from tangentscope.pipeline.store.sealed import checksum, seal
from tangentscope.pipeline.store.snapshots import plain_state, read_snapshot, snapshot_fault
from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.training.loop import train


def a_state() -> dict[str, Tensor]:
    return {
        "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "mask": torch.tensor([True, False]),
        "count": torch.tensor(7),
        "empty": torch.empty(0, 4),
    }


def test_checksum_of_equal_states_is_equal() -> None:
    state = a_state()
    assert checksum(state) == checksum(a_state())
    assert checksum(dict(reversed(state.items()))) == checksum(state)
    assert checksum(state | {"weight": state["weight"].T.contiguous().T}) == checksum(state)  # another layout in memory
    assert len(checksum(state)) == 16


@pytest.mark.parametrize("name", ["weight", "half", "mask", "count"])
def test_checksum_sees_each_bit(name: str) -> None:
    whole = checksum(a_state())
    bits = a_state()[name].numel() * a_state()[name].element_size() * 8
    changed = set()
    for bit in range(bits):
        state = a_state()
        state[name].reshape(-1).view(torch.uint8)[bit // 8] ^= 1 << (bit % 8)
        changed.add(checksum(state))
    assert whole not in changed
    assert len(changed) == bits


def test_checksum_sees_names_types_and_shapes() -> None:
    zeros = torch.zeros(2, 6)
    variants = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.reshape(3, 4)},
        {"a": zeros.reshape(12)},
        {"a": zeros.to(torch.int32)},  # the same bytes
        {"a": zeros[:1]},
        {"a": zeros, "b": torch.empty(0)},
        {"a": zeros, "b": torch.empty(0, 1)},
        {},
    ]
    assert len({checksum(state) for state in variants}) == len(variants)
    assert checksum({"a": torch.tensor(0.0)}) != checksum({"a": torch.tensor(-0.0)})


@pytest.fixture
def names(storage: Storage, recorder_of) -> list[SnapshotName]:
    """Snapshots of the three steps of a network with buffers."""
    data = points(12, dtype=torch.float32)
    what = training(data, epochs=1, model=Noisy())
    with recorder_of(what, data) as recorder:
        train(what, data, recorder)
    return run_files.current_snapshots(storage, RUN)


def test_a_file_holds_the_state_with_buffers_and_says_what_it_is(storage: Storage, names: list[SnapshotName]) -> None:
    assert [name.step for name in names] == [0, 1, 2]
    for name in names:
        state, metadata = read_snapshot(storage, RUN, name)
        assert state["1.num_batches_tracked"] == name.step
        assert state["1.running_mean"].shape == (8,)
        assert metadata.keys() == {"run", "step", "attempt", "checksum", "taken_at", "seal"}
        assert (metadata["run"], metadata["step"], metadata["attempt"]) == (RUN, str(name.step), "1")
        assert metadata["checksum"] == name.checksum == checksum(state)
        assert float(metadata["taken_at"]) > 1e9


def test_damage_is_told_in_one_line(storage: Storage, names: list[SnapshotName], tmp_path: Path) -> None:
    file, other = (run_files.snapshot(RUN, name) for name in names[:2])
    good = storage.read(file)
    header = 8 + int.from_bytes(good[:8], "little")
    damaged = {
        "first tensor byte": bytearray(good[:header]) + bytes([good[header] ^ 1]) + good[header + 1 :],
        "last tensor byte": good[:-1] + bytes([good[-1] ^ 128]),
        "another snapshot": storage.read(other),
        "cut short by a byte": good[:-1],
        "cut in the header": good[:40],
        "only the length": good[:8],
        "empty": b"",
        "too long": good + b"\0",
        "no such format": b"PAR1" * 50,
        "a number for a header": (2).to_bytes(8, "little") + b"12",
        "a list for a header": (2).to_bytes(8, "little") + b"[]",
        "zeros": bytes(len(good)),
        "a pickle": pickle.dumps(Evil(tmp_path / "touched")),
        "without metadata": safetensors.torch.save(read_snapshot(storage, RUN, names[0])[0]),
    }
    for what, data in damaged.items():
        storage.write(file, bytes(data))
        with pytest.raises(UserError) as caught:
            read_snapshot(storage, RUN, names[0])
        assert str(caught.value).startswith(f"{file}: "), what
        assert "\n" not in str(caught.value)
        assert "remove it" in str(caught.value)
    assert not (tmp_path / "touched").exists()  # nothing was unpickled
    storage.write(file, good)
    read_snapshot(storage, RUN, names[0])
    storage.remove(file)
    with pytest.raises(FileNotFoundError):
        read_snapshot(storage, RUN, names[0])


def test_a_snapshot_of_another_run_step_or_attempt_is_told(storage: Storage, names: list[SnapshotName]) -> None:
    first, second = names[:2]
    another = replace(first, attempt=2)
    storage.write(run_files.snapshot("another", first), storage.read(run_files.snapshot(RUN, first)))
    storage.write(run_files.snapshot(RUN, another), storage.read(run_files.snapshot(RUN, first)))
    storage.write(run_files.snapshot(RUN, first), storage.read(run_files.snapshot(RUN, second)))
    for run, name, key in (("another", first, "run"), (RUN, another, "attempt"), (RUN, first, "step")):
        file = run_files.snapshot(run, name)
        with pytest.raises(UserError, match=f"^{file}: foreign .its {key} is .*; remove it and run the study again$"):
            read_snapshot(storage, run, name)
        assert str(snapshot_fault(storage, run, name)).startswith(f"{file}: foreign (its {key} is ")
    assert snapshot_fault(storage, RUN, second) is None


def test_snapshots_of_older_versions_are_read(storage: Storage) -> None:
    name = SnapshotName(3, 1, checksum(a_state()))
    metadata = {"run": RUN, "step": "3", "attempt": "1", "checksum": name.checksum, "taken_at": "1.0"}
    storage.write(run_files.snapshot(RUN, name), safetensors.torch.save(a_state(), metadata))
    assert snapshot_fault(storage, RUN, name) is None
    state, found = read_snapshot(storage, RUN, name)
    assert found == metadata
    assert checksum(state) == name.checksum


def test_any_flipped_bit_is_found_or_harmless(tmp_path: Path) -> None:
    state = {"a": torch.arange(4.0), "b.c": torch.ones(2, 2, dtype=torch.int64)}
    name = SnapshotName(3, 1, checksum(state))
    storage = Storage.at(tmp_path)
    good = seal(state, {"run": RUN, "step": 3, "attempt": 1, "checksum": name.checksum, "taken_at": 1.0})

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, 8 * len(good) - 1))
    def flipped(bit: int) -> None:
        data = bytearray(good)
        data[bit // 8] ^= 1 << (bit % 8)
        storage.write(run_files.snapshot(RUN, name), bytes(data))
        try:
            found, _ = read_snapshot(storage, RUN, name)
        except UserError:
            return
        assert checksum(found) == name.checksum  # it was in the metadata, or padding

    flipped()


class Wrapping(nn.Module):
    """A network that calls a part of its own as wrappers call what they wrap."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 3)
        self.head = nn.Linear(3, 1)


def test_wrappers_leave_no_trace_in_names() -> None:
    plain = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    expected = list(plain.state_dict())
    assert list(plain_state(plain)) == expected
    compiled = torch.compile(plain)
    assert list(compiled.state_dict()) != expected
    assert list(plain_state(compiled)) == expected
    assert list(plain_state(nn.DataParallel(plain))) == expected
    assert list(plain_state(nn.DataParallel(compiled))) == expected
    part = nn.Sequential(torch.compile(plain[0]), plain[1])
    assert list(plain_state(part)) == expected


def test_a_part_of_ones_own_called_module_keeps_its_name() -> None:
    network = Wrapping()
    assert list(plain_state(network)) == list(network.state_dict())
    network.load_state_dict(plain_state(nn.DataParallel(torch.compile(network))))


def test_parameters_that_share_storage(storage: Storage, recorder_of) -> None:
    network = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    network[1].weight = network[0].weight
    with recorder_of(network) as recorder:
        recorder.snapshot(0, network)
    [name] = run_files.current_snapshots(storage, RUN)
    state, _ = read_snapshot(storage, RUN, name)
    assert state.keys() == {"0.weight", "1.weight"}
    assert all(torch.equal(tensor, network[0].weight) for tensor in state.values())


def test_dense_keeps_double_precision(storage: Storage, recorder_of) -> None:
    data = points()
    what = training(data, epochs=0.1, model=Dense())
    with recorder_of(what, data) as recorder:
        module, _ = train(what, data, recorder)
    state, _ = read_snapshot(storage, RUN, run_files.current_snapshots(storage, RUN)[-1])
    for name, tensor in module.state_dict().items():
        assert state[name].dtype == torch.float64
        assert torch.equal(state[name], tensor)


def test_a_module_sharded_over_workers_is_refused():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        module = torch.distributed.fsdp.fully_shard(nn.Sequential(nn.Linear(3, 2)), mesh=mesh)
        with pytest.raises(UserError, match=r"parameter 0\.weight of FSDPSequential is sharded over workers, expected"):
            plain_state(module)
    finally:
        torch.distributed.destroy_process_group()
