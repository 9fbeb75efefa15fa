"""Small synthetic files in the layouts that data sets are published in."""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import TASKS, Task

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
TEN = [f"data_batch_{number}" for number in range(1, 6)]


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def digits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28)), rng.integers(0, 10, n)


def write_idx(folder: Path, train: int = 30, test: int = 20) -> Path:
    """MNIST's four files."""
    folder.mkdir(parents=True)
    for (images, labels), names in [
        (digits(train, seed=0), (TRAIN_IMAGES, TRAIN_LABELS)),
        (digits(test, seed=1), (TEST_IMAGES, TEST_LABELS)),
    ]:
        (folder / names[0]).write_bytes(idx(images))
        (folder / names[1]).write_bytes(idx(labels))
    return folder


def batch(n: int, seed: int, key: str = "labels", classes: int = 10) -> dict[str, Any]:
    """As CIFAR's files hold it: rows of a red, a green and a blue plane, and a label for each."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
    return {"batch_label": "made up", key: rng.integers(0, classes, n).tolist(), "data": data}


def pickled(batch: object) -> bytes:
    """As published: protocol 2, and text that is not unicode."""
    return pickle.dumps(batch, protocol=2)


def write_batches(folder: Path, n: int = 12) -> Path:
    """CIFAR-10's six files, of `n` images each."""
    folder.mkdir(parents=True)
    for seed, name in enumerate([*TEN, "test_batch"]):
        (folder / name).write_bytes(pickled(batch(n, seed)))
    return folder


def write_hundred(folder: Path) -> Path:
    """CIFAR-100's two files."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(["train", "test"]):
        (folder / name).write_bytes(pickled(batch(40, seed, "fine_labels", 100) | {"coarse_labels": [0] * 40}))
    return folder


def cars(n: int = 30, unknown: int = 2) -> list[str]:
    """Lines of UCI's file."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(n):
        mpg, horsepower, weight = rng.uniform(9, 46), rng.uniform(50, 230), rng.uniform(1600, 5000)
        power = "?" if number < unknown else f"{horsepower:.1f}"
        numbers = f"{mpg:.1f}   {rng.integers(3, 9)}   307.0      {power:<10}  {weight:.0f}.      12.0   "
        lines.append(f'{numbers}{rng.integers(70, 83)}  {1 + number % 3}\t"car {number}"')
    return lines


def write_cars(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "auto-mpg.data").write_text("\n".join(cars()) + "\n")
    return folder


WRITERS = {
    "mnist": write_idx,
    "mnist_vae": write_idx,
    "fashion_mnist": write_idx,
    "cifar10": write_batches,
    "cifar100": write_hundred,
    "auto_mpg": write_cars,
}


def written(name: str, data_dir: Path) -> Path:
    """The folder with a task's data, small and synthetic, where the task looks for them."""
    published = TASKS[name].published
    assert published is not None
    return WRITERS[name](published.folders(data_dir)[0])


def made_published(monkeypatch: pytest.MonkeyPatch, task: type[Task], folder: Path) -> None:
    """Let the files in a folder pass for the published ones."""
    assert task.published is not None
    for name in task.published.md5:
        monkeypatch.setitem(task.published.md5, name, hashlib.md5((folder / name).read_bytes()).hexdigest())  # pyright: ignore
