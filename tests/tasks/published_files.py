"""Small synthetic files in the layouts that data sets are published in."""

import gzip
import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tangentscope.tasks import TASKS, Task

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


SMILES = ["C", "CC", "c1ccccc1", "C(=O)O", "[Na+].[Cl-]", "C[C@H](N)O", "F/C=C/F", "N", "C#N", "CS(=O)(=O)C", "OCCO"]


def molecules(n: int = 60, labels: int = 3) -> list[str]:
    """Lines of OGB's table: small molecules beside chains, and single atoms; half of the labels were measured."""
    rng = np.random.default_rng(0)
    lines = [",".join([*(f"assay {number}" for number in range(labels)), "smiles,mol_id"])]
    for number in range(n):
        measured = rng.choice(["0", "1", "", ""], labels)
        smiles = f"C{'C' * (number // len(SMILES))}.{SMILES[number % len(SMILES)]}" if number % 7 else "C"
        lines.append(",".join([*measured, smiles, f"M{number}"]))
    return lines


def compressed(lines: list[str]) -> bytes:
    return gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)


def write_molecules(folder: Path, n: int = 60, labels: int = 3) -> Path:
    """OGB's four files: half for training, a third for testing, the rest for choosing."""
    splits = {"train": range(0, n // 2), "valid": range(n // 2, 2 * n // 3), "test": range(2 * n // 3, n)}
    for name in ("mapping", "split/scaffold"):
        (folder / name).mkdir(parents=True)
    (folder / "mapping/mol.csv.gz").write_bytes(compressed(molecules(n, labels)))
    for split, rows in splits.items():
        (folder / f"split/scaffold/{split}.csv.gz").write_bytes(compressed(list(map(str, rows))))
    return folder


LETTERS = {"NOUN": "λόγος", "VERB": "ἔφη", "DET": "ὁ", "PUNCT": "·"}


def conllu(sentences: int, seed: int) -> str:
    """Sentences of two to nine made-up words, whose forms go with their tags; each has a multiword token."""
    rng = np.random.default_rng(seed)
    blocks = []
    for number in range(sentences):
        tags = rng.choice(list(LETTERS), rng.integers(2, 10))
        lines = [f"# sent_id = s{number}", "1-2\tκἀγώ" + "\t_" * 8]
        for place, tag in enumerate(tags, start=1):
            lines.append(f"{place}\t{LETTERS[tag]}{rng.integers(9)}\t_\t{tag}" + "\t_" * 6)
        blocks.append("\n".join(lines) + "\n\n")
    return "".join(blocks)


def write_treebank(folder: Path, train: int = 60, dev: int = 10, test: int = 60) -> Path:
    """PTNK's three files."""
    folder.mkdir(parents=True)
    for seed, (part, count) in enumerate({"train": train, "dev": dev, "test": test}.items()):
        (folder / f"grc_ptnk-ud-{part}.conllu").write_text(conllu(count, seed))
    return folder


WRITERS = {
    "mnist": write_idx,
    "mnist_vae": write_idx,
    "fashion_mnist": write_idx,
    "cifar10": write_batches,
    "cifar100": write_hundred,
    "auto_mpg": write_cars,
    "greek": write_treebank,
    "molecules": write_molecules,
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
        content = (folder / name).read_bytes()
        content = gzip.decompress(content) if name.endswith(".gz") else content
        monkeypatch.setitem(task.published.md5, name, hashlib.md5(content).hexdigest())  # pyright: ignore
