import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_files import TEN, batch, made_published, pickled, write_batches, write_hundred
from pydantic import ValidationError

from tangentscope.tasks import Cifar10, Cifar100, DataError
from tangentscope.tasks.readers.cifar_batches import read_batches

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """CIFAR-10's files, 12 images each."""
    return write_batches(tmp_path / "cifar10" / "cifar-10-batches-py")


def one_line(caught: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(inputs: torch.Tensor) -> np.ndarray:
    """The bytes that inputs were made from, `[n, 3072]`."""
    colours = inputs.double().numpy() * np.array(STD)[:, None, None] + np.array(MEAN)[:, None, None]
    return np.rint(colours * 255).astype(np.int64).reshape(len(inputs), -1)


def test_batches_become_standardised_tensors(folder: Path, tmp_path: Path):
    data = Cifar10(partial=True).load(tmp_path)
    assert (data.input_shape, data.outputs) == ((3, 32, 32), 10)
    for split, batches in [(data.train, [batch(12, seed) for seed in range(5)]), (data.test, [batch(12, 5)])]:
        assert (split.inputs.dtype, split.targets.dtype) == (torch.float32, torch.int64)
        found = {(row.tobytes(), int(label)) for row, label in zip(rows(split.inputs), split.targets, strict=True)}
        pixels = np.concatenate([each["data"] for each in batches]).astype(np.int64)
        labels = [label for each in batches for label in each["labels"]]
        assert found == {(row.tobytes(), label) for row, label in zip(pixels, labels, strict=True)}


def test_the_complete_published_set_needs_no_asking(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made_published(monkeypatch, Cifar10, folder)
    expected = "CIFAR-10, 9 of 60 train and 12 of 12 test images (data_seed 0) from the published files in "
    assert Cifar10(train_size=9).load(tmp_path).source == f"{expected}{folder}"
    assert Cifar10(train_size=9, partial=True).load(tmp_path / "cifar10").source == f"{expected}{folder}"


def test_part_of_it_is_taken_on_request_only_and_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made_published(monkeypatch, Cifar10, folder)
    (folder / "test_batch").write_bytes(pickled(batch(3, 9)))
    for name in TEN[1:4]:
        (folder / name).unlink()
    wrong = "data_batch_2, data_batch_3, data_batch_4 missing; test_batch not as published"
    with pytest.raises(DataError) as caught:
        Cifar10().load(tmp_path)
    assert one_line(caught) == (
        f"{folder} is not the complete CIFAR-10 ({wrong}): put the published files there, or set task.partial to true "
        "to use what is there, which every result will say"
    )
    assert Cifar10(partial=True).load(tmp_path).source == (
        f"CIFAR-10, 24 of 24 train and 3 of 3 test images (data_seed 0) from an incomplete set in {folder} ({wrong})"
    )


@pytest.mark.parametrize(("names", "what"), [(TEN, "training"), (["test_batch"], "test")])
def test_a_part_needs_a_batch_of_each_split(folder: Path, tmp_path: Path, names: list[str], what: str):
    for name in names:
        (folder / name).unlink()
    with pytest.raises(DataError, match=rf"has no {what} batch of CIFAR-10, expected one of {names[0]}"):
        Cifar10(partial=True).load(tmp_path)


def with_entries(**entries: Any) -> Callable[[bytes], bytes]:
    return lambda content: pickled(batch(12, 0) | entries)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[:-400],
    "cut to nothing": lambda content: b"",
    "no pickle": lambda content: b"<html>404 Not Found</html>",
    "no dict": lambda content: pickled([1, 2]),
    "a row too few": with_entries(data=batch(11, 0)["data"]),
    "rows cut": with_entries(data=batch(12, 0)["data"][:, :-1]),
    "floats": with_entries(data=batch(12, 0)["data"].astype(np.float32)),
    "no array": with_entries(data=[[0] * 3072] * 12),
    "no image": with_entries(data=batch(0, 0)["data"], labels=[]),
    "no labels": with_entries(labels=None),
    "a label too high": with_entries(labels=[10] * 12),
    "a label below zero": with_entries(labels=[-1] * 12),
    "labels of text": with_entries(labels=["cat"] * 12),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_batch_is_named(damage: str, folder: Path, tmp_path: Path):
    path = folder / "data_batch_3"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(DataError) as caught:
        Cifar10(partial=True).load(tmp_path)
    assert one_line(caught).startswith(str(path))
    assert one_line(caught).endswith("put an undamaged copy there")


def test_a_batch_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"data_batch_1 cannot be read \(Permission denied\): put an undamaged"):
        read_batches(folder, Cifar10.published, ([], []), "labels", 10, partial=True)


class Evil:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("harmless", [False, True])
def test_a_pickle_can_make_arrays_and_nothing_else(folder: Path, tmp_path: Path, harmless: bool):
    mark = tmp_path / "mark"
    content = pickle.dumps(OrderedDict(batch(12, 0)) if harmless else {**batch(12, 0), "more": Evil(mark)})
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_1 is no batch of images \(it asks for "):
        Cifar10(partial=True).load(tmp_path)
    assert not mark.exists()


def test_arrays_of_any_protocol_are_read(folder: Path, tmp_path: Path):
    expected = Cifar10(partial=True).load(tmp_path).fingerprint
    for protocol in range(6):
        (folder / "data_batch_1").write_bytes(pickle.dumps(batch(12, 0), protocol=protocol))
        assert Cifar10(partial=True).load(tmp_path).fingerprint == expected


# classes


def test_classes_are_chosen_and_labelled_in_the_order_given(folder: Path, tmp_path: Path):
    everything = Cifar10(partial=True).load(tmp_path)
    data = Cifar10(partial=True, classes=("bird", "cat", "airplane", "automobile")).load(tmp_path)
    assert data.outputs == 4
    numbers = {2: 0, 3: 1, 0: 2, 1: 3}  # published label: ours
    for chosen, split in [(data.train, everything.train), (data.test, everything.test)]:
        expected = {
            (image.numpy().tobytes(), numbers[int(label)])
            for image, label in zip(split.inputs, split.targets, strict=True)
            if int(label) in numbers
        }
        assert {(i.numpy().tobytes(), int(t)) for i, t in zip(chosen.inputs, chosen.targets, strict=True)} == expected
    assert "from the classes bird, cat, airplane, automobile of an incomplete set in" in data.source


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("bird", "cta"), 'class "cta" unknown; did you mean "cat"?'),
        (("bird", "xyzzy"), 'class "xyzzy" unknown; allowed: airplane, automobile'),
        (("bird", "bird"), "each class may stand once, got bird, bird"),
        (("bird",), "at least 2 items"),
    ],
)
def test_classes_that_are_none(classes: tuple[str, ...], said: str):
    with pytest.raises(ValidationError) as caught:
        Cifar10(classes=classes)
    assert said in str(caught.value)


def test_classes_without_an_image_are_refused(folder: Path, tmp_path: Path):
    (folder / "test_batch").write_bytes(pickled(batch(12, 0) | {"labels": [5] * 12}))
    with pytest.raises(DataError, match=r"^there is no image of the classes ship, truck of .*: ask for other classes"):
        Cifar10(partial=True, classes=("ship", "truck")).load(tmp_path)


def test_cifar100_has_fine_labels(tmp_path: Path):
    write_hundred(tmp_path / "cifar-100-python")
    data = Cifar100(partial=True).load(tmp_path)
    assert data.outputs == 100
    assert sorted(data.train.targets.tolist()) == sorted(batch(40, 0, "fine_labels", 100)["fine_labels"])
    assert len(set(Cifar100.class_names)) == 100
    assert list(Cifar100.class_names) == sorted(Cifar100.class_names), "as published: in alphabetical order"


REAL = Path(os.environ.get("TANGENTSCOPE_DATA", "none"))


@pytest.mark.skipif(
    not (REAL / "cifar10/cifar-10-batches-py/batches.meta").is_file(),
    reason="TANGENTSCOPE_DATA names no folder with cifar10/cifar-10-batches-py",
)
def test_the_real_files_are_read_and_standardised():
    data = Cifar10(partial=True).load(REAL)
    assert data.train.inputs.mean((0, 2, 3)).abs().max() < 0.02
    assert (data.train.inputs.std((0, 2, 3)) - 1).abs().max() < 0.02
    meta = pickle.loads((REAL / "cifar10/cifar-10-batches-py/batches.meta").read_bytes(), encoding="latin1")
    assert tuple(meta["label_names"]) == Cifar10.class_names
