"""Reading molecules in the files of the Open Graph Benchmark (Hu et al. 2020, arXiv:2005.00687).

A folder has `mapping/mol.csv.gz`, a table of labels (0, 1 or nothing), SMILES and a name for each molecule, and
`split/scaffold/{train,valid,test}.csv.gz`, the numbers of its rows from 0. The graphs that OGB adds are not read.
"""

import functools
import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tangentscope.tasks.errors import DataError
from tangentscope.tasks.readers.published import Published
from tangentscope.tasks.text import plain

TABLE = "mapping/mol.csv.gz"
SPLITS = ("train", "valid", "test")
ENDS = ["smiles", "mol_id"]  # the last columns of the table
UNDAMAGED = "put an undamaged copy there"

ARCHIVES = "https://snap.stanford.edu/ogb/data/graphproppred/csv_mol_download"
# Of OGB's archives, which come without sums. This one is recorded by TensorFlow Datasets, for its ogbg_molpcba 0.1.3.
SHA256 = {"pcba": "0bb12da2f3ec8b0bb80564114a6174fad2df6a3a0d3c19470b3a27813a7d4e53"}
# Molecules and labels of OGB's versions.
SHAPES = {"tox21": (7_831, 12), "toxcast": (8_576, 617), "muv": (93_087, 17), "molpcba": (437_929, 128)}
# Of the uncompressed files of MoleculeNet's versions (Wu et al. 2018, as deepchem has them) in OGB's layout, each with
# a scaffold split that is not OGB's: the table, and rows for training, validation and test.
MOLECULENET_MD5 = {
    "tox21": (
        "83ae5f78a0133d15e4a77ca51872db04",
        "e067285837782ed4b24c2d873f214c45",
        "1f4d529d5a55b0406e4d1c4009218fe5",
        "f0b3f6f6cb34e69fdff536e2639cf218",
    ),
    "toxcast": (
        "0b6e47224d63f5207b2ac86352b6e298",
        "2cfe7bdfda6152b152a0fd288d97f830",
        "574ab3a5cfb88b9e8b94fe70427da916",
        "b9d2238d7105aa3bdb742ae0aa15b643",
    ),
    "muv": (
        "f3c3b7c9edab0004396072ebd9b25ae5",
        "9daffcd661e0c66e912a3ef8ae8ff8d0",
        "6da6d5e88e7da074a28c8863d8f9416f",
        "cf7633e6551528ea944a3149b541073e",
    ),
}


@dataclass(frozen=True)
class Molecules:
    """What a folder's files hold.

    Args:
        smiles: n of them.
        labels: float32 `[n, labels]`, NaN where nothing was measured.
        rows: of each split, numbers of molecules.
        origin: which files these are, as a phrase.
    """

    smiles: list[str]
    labels: np.ndarray
    rows: Mapping[str, np.ndarray]
    origin: str


def molecules_of(dataset: str, title: str) -> Published:
    """Where a set of molecules lies, and what is known of its files."""
    own = dataset.removeprefix("mol")  # OGB has pcba.zip and ogbg_molpcba
    files = (TABLE, *map(file, SPLITS))
    return Published(
        task="molecules",
        title=title,
        layout=dataset,
        md5=dict(zip(files, MOLECULENET_MD5.get(dataset, [None] * len(files)), strict=True)),
        home=f"{ARCHIVES}/{own}.zip",
        download=functools.partial(_download, own, dataset),
        also=(f"ogbg_mol{own}",),
        dataset=dataset,
    )


def file(split: str) -> str:
    """Where a split's rows are."""
    return f"split/scaffold/{split}.csv.gz"


def _download(archive: str, layout: str, root: Path) -> None:
    """The files of one of OGB's archives."""
    from torchvision.datasets.utils import download_url  # a second to load, and needed here only

    if archive not in SHA256:
        raise RuntimeError("OGB gives no sum to check its archive by")
    path = root / f"{archive}.zip"
    download_url(f"{ARCHIVES}/{path.name}", str(root), path.name)
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[archive]:
        raise RuntimeError(f"{path.name} not as published")
    with zipfile.ZipFile(path) as members:
        for name in (TABLE, *map(file, SPLITS)):
            target = root / layout / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(members.read(f"{archive}/{name}"))


def read_molecules(folder: Path, published: Published, partial: bool) -> Molecules:
    """The molecules in a folder.

    Raises:
        DataError: if a file is missing or damaged, or rows of a split are not in the table; if the set is neither of
            the published versions and `partial` is not set.
    """
    paths = published.located(folder)
    if missing := [name for name in published.md5 if name not in paths]:
        raise DataError(
            f"{published.title} in {folder} is incomplete: {', '.join(missing)} missing, expected all of "
            f"{', '.join(published.md5)}: put what is missing there"
        )
    contents = {name: _content(path) for name, path in paths.items()}
    smiles, labels = _table(paths[TABLE], contents[TABLE])
    rows = {split: _rows(paths[file(split)], contents[file(split)], len(smiles)) for split in SPLITS}
    everything = np.concatenate(list(rows.values()))
    if len(np.unique(everything)) < len(everything):
        raise DataError(f"{folder / 'split/scaffold'} has a molecule twice, expected each once: {UNDAMAGED}")
    strange = [name for name, content in contents.items() if not published.is_published(name, content)]
    return Molecules(smiles, labels, rows, _origin(folder, published, labels, len(everything), strange, partial))


def _origin(
    folder: Path, published: Published, labels: np.ndarray, split: int, strange: list[str], partial: bool
) -> str:
    if not strange:
        return f"MoleculeNet's {len(labels):,} in {folder}, with a scaffold split that is not OGB's"
    shape = SHAPES[published.dataset]
    if labels.shape == shape and split == len(labels):
        return f"the {len(labels):,} in {folder}, as many as OGB has (its files have no sums)"
    if partial:
        return f"the {len(labels):,} in {folder}, which are not a published set"
    raise DataError(
        f"{folder} has {split:,} molecules in its splits, {len(labels):,} molecules and {labels.shape[1]:,} labels in "
        f"its table, and {', '.join(strange)} not as known; expected OGB's {shape[0]:,} molecules and "
        f"{shape[1]:,} labels: get the whole set ({published.home}) or set task.partial=true to use these"
    )


def _content(path: Path) -> bytes:
    try:
        return plain(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): {UNDAMAGED}") from error


def _table(path: Path, content: bytes) -> tuple[list[str], np.ndarray]:
    import pandas as pd  # half a second to load, and needed here only

    header = content.partition(b"\n")[0].decode(errors="replace").strip().split(",")
    names = header[: -len(ENDS)]
    if header[-len(ENDS) :] != ENDS or not names:
        raise DataError(
            f"{path} has the columns {', '.join(header)[:60]}, expected labels, then {', '.join(ENDS)}: put OGB's "
            "mapping/mol.csv.gz there"
        )
    types = dict.fromkeys(names, "float32") | dict.fromkeys(ENDS, "str")
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=types, keep_default_na=False, na_values=[""])  # pyright: ignore
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("rows are longer than the header")
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): {UNDAMAGED}".replace("\n", " ")) from error
    labels = table[names].to_numpy(np.float32)
    right = (np.isnan(labels) | (labels == 0) | (labels == 1)).all(1) & table[ENDS].notna().all(axis=1).to_numpy()
    if not len(right) or not right.all():
        where = f"in row {int(right.argmin())}" if len(right) else "without rows"
        raise DataError(f"{path} is damaged {where}: expected labels 0, 1 or none, SMILES and a name: {UNDAMAGED}")
    return table["smiles"].tolist(), labels


def _rows(path: Path, content: bytes, molecules: int) -> np.ndarray:
    try:
        rows = np.array(content.split(), np.int64)
    except ValueError:
        rows = np.array([-1])
    if not len(rows) or rows.min() < 0 or rows.max() >= molecules:
        raise DataError(
            f"{path} is damaged: expected row numbers of the table, from 0 to {molecules - 1}, one a line: {UNDAMAGED}"
        )
    return rows
