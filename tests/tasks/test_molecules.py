import gzip
import hashlib
import io
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_files import compressed, made_published, molecules, write_molecules

from tangentscope.tasks import DataError, MoleculeLabels, TaskData
from tangentscope.tasks.molecules import DATA_SETS
from tangentscope.tasks.readers.ogb import SHA256, SHAPES, SPLITS
from tangentscope.tasks.readers.smiles import reader

N = 60
NONE = float("nan")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty molecules of three labels: half for training, 10 for choosing, 20 for testing."""
    return write_molecules(tmp_path / "molecules/tox21")


def task(**fields: Any) -> MoleculeLabels:
    return MoleculeLabels.model_validate({"partial": True, **fields})


def table() -> tuple[np.ndarray, list[str]]:
    """Labels and SMILES of the file."""
    rows = [line.split(",") for line in molecules()[1:]]
    return np.array([[float(v) if v else NONE for v in row[:3]] for row in rows]), [row[3] for row in rows]


def test_molecules_of_the_splits_with_their_labels(folder: Path, tmp_path: Path):
    data, (labels, smiles) = task(data_seed=3).load(tmp_path), table()
    starts = {"train": range(30), "valid": range(30, 40), "test": range(40, 60)}
    assert list(data.splits) == ["train", "test", "valid"]
    for split, rows in starts.items():
        points, order = data.splits[split], np.array(rows)[np.random.RandomState(3).permutation(len(rows))]
        np.testing.assert_array_equal(points.targets.numpy(), labels[order].astype(np.float32))
        with reader() as read:
            for place, row in enumerate(order):
                graph, expected = points.inputs[torch.tensor([place])], read(smiles[row])
                assert expected is not None
                for part in ("x", "edge_index", "edge_attr"):
                    assert torch.equal(graph[part], expected[part])
    assert (data.input_shape, data.outputs) == ((9,), 3)
    assert {part: len(counts) for part, counts in data.codes.items()} == {"atoms": 9, "bonds": 3}
    assert data.source.startswith(
        "Tox21, 30 of 30 train, 10 of 10 valid, 20 of 20 test molecules (data_seed 3) and 3 of 3 labels from the 60 in "
        f"{folder}, which are not a published set, read by rdkit "
    )


def test_a_smaller_draw_is_the_beginning_of_a_larger_one(folder: Path, tmp_path: Path):
    small = task(train_size=5, valid_size=4, test_size=3).load(tmp_path)
    large = task().load(tmp_path)
    assert [len(small.splits[split]) for split in SPLITS] == [5, 4, 3]
    for split in SPLITS:
        few, all_ = small.splits[split].targets, large.splits[split].targets
        torch.testing.assert_close(few, all_[: len(few)], equal_nan=True)
    assert "5 of 30 train, 4 of 10 valid, 3 of 20 test" in small.source


def test_the_best_covered_labels_are_those_most_measured_for_training(folder: Path, tmp_path: Path):
    lines = molecules()
    cut = [",".join(["", *line.split(",")[1:]]) if 0 < n < 20 else line for n, line in enumerate(lines)]
    (folder / "mapping/mol.csv.gz").write_bytes(compressed(cut))
    two, three = task(labels=2).load(tmp_path), task().load(tmp_path)
    assert two.outputs == 2
    torch.testing.assert_close(two.train.targets, three.train.targets[:, 1:], equal_nan=True)
    assert "2 of 3 labels" in two.source


def test_folders_may_have_ogbs_name(tmp_path: Path):
    own = task(dataset="molpcba")
    write_molecules(tmp_path / "ogbg_molpcba")
    found = own.load(tmp_path)
    assert found.source.startswith("ogbg-molpcba, 30 of 30 train")
    write_molecules(tmp_path / "molecules/molpcba")
    assert own.load(tmp_path).fingerprint == found.fingerprint


def test_the_published_sets_are_recognised(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match=r"60 molecules and 3 labels .* expected OGB's 7,831 .* task\.partial=true"):
        MoleculeLabels().load(tmp_path)
    monkeypatch.setitem(SHAPES, "tox21", (60, 3))
    assert (
        f"from the 60 in {folder}, as many as OGB has (its files have no sums)"
        in MoleculeLabels().load(tmp_path).source
    )
    made_published(monkeypatch, MoleculeLabels, folder)
    assert "from MoleculeNet's 60 in " in MoleculeLabels().load(tmp_path).source


def rewritten(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        lines = gzip.decompress((folder / name).read_bytes()).decode().splitlines()
        (folder / name).write_bytes(compressed(change(lines)))

    return write


def cut_off(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20]) and None


TABLE, TRAIN = "mapping/mol.csv.gz", "split/scaffold/train.csv.gz"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_off(TABLE), r"mol\.csv\.gz cannot be read \(.*\): put an undamaged copy"),
        (cut_off(TRAIN), r"train\.csv\.gz cannot be read"),
        (lambda folder: (folder / TRAIN).unlink(), "is incomplete: split/scaffold/train.csv.gz missing, expected all"),
        (rewritten(TABLE, lambda lines: [*lines[:-1], lines[-1][:6]]), r"mol\.csv\.gz is damaged in row 59: expected"),
        (rewritten(TABLE, lambda lines: lines[:1]), r"mol\.csv\.gz is damaged without rows"),
        (rewritten(TABLE, lambda lines: [lines[0], "2" + molecules()[1].lstrip("01"), *lines[2:]]), "damaged in row 0"),
        (
            rewritten(TABLE, lambda lines: [lines[0], "x" + molecules()[1].lstrip("01"), *lines[2:]]),
            "could not convert",
        ),
        (rewritten(TABLE, lambda lines: lines[1:]), r"has the columns .*, expected labels, then smiles, mol_id"),
        (rewritten(TABLE, lambda lines: [line + ",1" for line in lines]), "has the columns"),
        (rewritten(TABLE, lambda lines: [lines[0], *[f"1,{line}" for line in lines[1:]]]), "is damaged"),
        (rewritten(TRAIN, lambda lines: [*lines, "60"]), r"train\.csv\.gz is damaged: expected row numbers .* 0 to 59"),
        (rewritten(TRAIN, lambda lines: ["row", *lines]), r"train\.csv\.gz is damaged"),
        (rewritten(TRAIN, lambda lines: []), r"train\.csv\.gz is damaged"),
        (rewritten(TRAIN, lambda lines: [*lines, "59"]), "has a molecule twice"),
        (rewritten(TABLE, lambda lines: [lines[0], ",1,,C1CC,broken", *lines[2:]]), r"in row 0, but 'C1CC': put"),
    ],
)
def test_what_is_damaged_is_named(folder: Path, tmp_path: Path, damage: Callable[[Path], None], said: str):
    damage(folder)
    with pytest.raises(DataError, match=said) as caught:
        task().load(tmp_path)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["labels", "train_size", "test_size", "valid_size"])
@pytest.mark.usefixtures("folder")
def test_more_than_there_is_is_refused(tmp_path: Path, field: str):
    with pytest.raises(DataError, match=rf"task\.{field} is 99, but .* has \d+: ask for fewer"):
        task(**{field: 99}).load(tmp_path)


def test_without_rdkit_the_files_are_not_read_in_vain(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    for call in (task().load, task().checked):
        with pytest.raises(DataError, match=r"pip install 'tangentscope\[molecules\]'"):
            call(tmp_path)


# Loss and scores


def some(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels `[6, 4]`; of the last molecule nothing is measured, of the last label one class."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    targets = torch.tensor(
        [[0, 1, NONE, 1], [1, NONE, 0, 1], [0, 0, 1, NONE], [1, 1, NONE, 1], [NONE, 0, 1, 1], [NONE] * 4]
    )
    return outputs, targets


def test_the_loss_is_the_cross_entropy_of_what_was_measured():
    outputs, targets = some()
    expected = []
    for logits, labels in zip(outputs.tolist(), targets.tolist(), strict=True):
        terms = [np.log1p(np.exp(f if y == 0 else -f)) for f, y in zip(logits, labels, strict=True) if y in (0, 1)]
        expected.append(sum(terms) / 4)
    np.testing.assert_allclose(MoleculeLabels().loss(outputs, targets).numpy(), expected, rtol=1e-12)
    assert expected[-1] == 0


def test_its_gradient_is_the_residual_and_zero_where_nothing_was_measured():
    outputs, targets = some()
    outputs.requires_grad_()
    MoleculeLabels().loss(outputs, targets).sum().backward()
    assert outputs.grad is not None
    measured = ~targets.isnan()
    assert (outputs.grad[~measured] == 0).all()
    residual = (outputs.sigmoid() - targets)[measured] / 4
    torch.testing.assert_close(outputs.grad[measured], residual.detach(), rtol=1e-12, atol=0)


def test_the_score_is_the_mean_over_labels_of_both_classes():
    outputs, targets = some()
    expected = []
    for label in range(3):
        measured = [
            (f, y) for f, y in zip(outputs[:, label].tolist(), targets[:, label].tolist(), strict=True) if y == y
        ]
        pairs = [(p, n) for p, y in measured if y == 1 for n, z in measured if z == 0]
        expected.append(np.mean([p > n for p, n in pairs]))
    assert MoleculeLabels().score(outputs, targets) == pytest.approx(np.mean(expected))


def test_average_precision_by_hand():
    outputs = torch.tensor([[4.0, 0], [3, 1], [2, 2], [1, 3], [0, 4]])
    targets = torch.tensor([[1, NONE], [0, 1], [1, 1], [NONE, NONE], [0, 1]])
    # Of the first label: precision 1 at the first of two positives, 2/3 at the second. The second has one class.
    found = MoleculeLabels().further_scores(outputs, targets)
    assert found == {"average_precision": pytest.approx((1 + 2 / 3) / 2)}


def test_without_a_label_of_both_classes_there_is_no_score():
    outputs, targets = torch.zeros(3, 2), torch.tensor([[1, NONE], [1, 0], [1, 0]])
    assert np.isnan(MoleculeLabels().score(outputs, targets))
    assert np.isnan(MoleculeLabels().further_scores(outputs, targets)["average_precision"])


# Fetching: the network is never asked


def archive(folder: Path) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as members:
        for path in folder.rglob("*.gz"):
            members.write(path, f"pcba/{path.relative_to(folder).as_posix()}")
    return held.getvalue()


def test_ogbs_archive_is_checked_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_molecules(tmp_path / "source")
    content = archive(source)

    def download(url: str, root: str, name: str) -> None:
        assert url == "https://snap.stanford.edu/ogb/data/graphproppred/csv_mol_download/pcba.zip"
        Path(root, name).write_bytes(content)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    published = DATA_SETS["molpcba"]
    with pytest.raises(RuntimeError, match=r"pcba\.zip not as published"):
        published.download(tmp_path)
    assert not (tmp_path / "molpcba").exists()
    monkeypatch.setitem(SHA256, "pcba", hashlib.sha256(content).hexdigest())
    published.download(tmp_path)
    assert published.compared(tmp_path / "molpcba") == ([], [])
    for name in published.md5:
        assert (tmp_path / "molpcba" / name).read_bytes() == (source / name).read_bytes()


# Real data

REAL = Path(os.environ.get("TANGENTSCOPE_DATA", "none"))


@pytest.mark.skipif(not (REAL / "molecules/tox21").is_dir(), reason="TANGENTSCOPE_DATA names no folder with molecules")
@pytest.mark.parametrize(
    ("dataset", "molecules", "labels", "measured"),
    [("tox21", 8_006, 12, 0.827), ("toxcast", 8_597, 617, 0.289), ("muv", 93_127, 17, 0.158)],
)
def test_real_molecules(dataset: str, molecules: int, labels: int, measured: float):
    few = {"train_size": 400, "valid_size": 50, "test_size": 300}
    data: TaskData = MoleculeLabels.model_validate({"dataset": dataset, **few}).load(REAL)
    assert f"of {labels} labels from MoleculeNet's {molecules:,} in " in data.source
    assert data.outputs == labels
    assert (~data.test.targets.isnan()).double().mean().item() == pytest.approx(measured, abs=0.1)
