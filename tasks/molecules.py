"""Molecules: many binary labels each, most of them not measured; in the files of the Open Graph Benchmark (OGB).

OGB is Hu et al. 2020, arXiv:2005.00687; its ogbg-molpcba, ogbg-moltox21, ogbg-moltoxcast and ogbg-molmuv come from
MoleculeNet (Wu et al. 2018, arXiv:1703.00564).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from tangentscope.tasks.base import Task
from tangentscope.tasks.data import Split, TaskData
from tangentscope.tasks.errors import DataError
from tangentscope.tasks.readers.ogb import SPLITS, TABLE, Molecules, molecules_of, read_molecules
from tangentscope.tasks.readers.published import Published
from tangentscope.tasks.readers.smiles import ATOM_CODES, BOND_CODES, rdkit_version, reader

Size = Annotated[int, Field(ge=1)]
DATA_SETS = {
    "tox21": molecules_of("tox21", "Tox21"),
    "toxcast": molecules_of("toxcast", "ToxCast"),
    "muv": molecules_of("muv", "MUV"),
    "molpcba": molecules_of("molpcba", "ogbg-molpcba"),
}


class MoleculeLabels(Task, frozen=True):
    """Predict binary labels of molecules, such as what they are active against; the kernel is of a logit for each.

    Inputs are graphs of atoms and bonds with OGB's features as codes (see `tasks.readers.smiles`). Targets are float32
    `[n, labels]`: 0, 1, or NaN where nothing was measured. Splits are by scaffold, as the files have them.

    Args:
        dataset: which of the sets.
        labels: how many labels: those that most of the molecules for training were measured for, in the files' order;
            all, unless given. 128 of ToxCast's are as many as ogbg-molpcba has.
        train_size: how many molecules for training to draw; all, unless given.
        test_size: how many for testing.
        valid_size: how many for choosing an epoch.
        data_seed: which random order they are drawn in. A smaller draw is the beginning of a larger one with the same
            seed. It never moves the borders between the splits.
        partial: whether a part of a set, or another one in its place, will do. Every result says so.
    """

    name: Literal["molecules"] = "molecules"
    dataset: Literal["tox21", "toxcast", "muv", "molpcba"] = "tox21"
    labels: Size | None = None
    train_size: Size | None = None
    test_size: Size | None = None
    valid_size: Size | None = None
    data_seed: int = Field(default=0, ge=0, lt=2**32)
    partial: bool = False

    version: ClassVar[int] = 1
    score_name: ClassVar[str] = "roc_auc"
    observes: ClassVar[str] = "a logit for each label"
    data_sets: ClassVar[Mapping[str, Published]] = DATA_SETS
    published: ClassVar[Published] = DATA_SETS["tox21"]

    def load(self, data_dir: Path | None = None) -> TaskData:
        """The molecules drawn, read from their SMILES at about two thousand a second.

        Args:
            data_dir: holds `mapping/mol.csv.gz` and `split/scaffold/….csv.gz` in a folder that is named as `dataset` or
                as OGB names it (`ogbg_molpcba`), itself or in `molecules`.

        Raises:
            DataError: if files are missing or damaged; if they are not a whole set and `partial` is not set; if rdkit
                cannot read a SMILES or is not installed; if there are fewer molecules or labels than asked for.
        """
        molecules, folder = self._read(data_dir)
        labels = self._chosen(molecules)
        with reader() as read:
            parts = {split: self._split(molecules, split, labels, folder / TABLE, read) for split in SPLITS}
        return TaskData(
            **parts,
            input_shape=(len(ATOM_CODES),),
            outputs=len(labels),
            source=self._source(molecules),
            codes={"atoms": ATOM_CODES, "bonds": BOND_CODES},
        )

    def checked(self, data_dir: Path | None = None) -> str:
        """As `load` says it; no SMILES is read."""
        return self._source(self._read(data_dir)[0])

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy in nats, `[n]`: the mean over all labels, to which those not measured add nothing.

        Dividing by all labels, rather than by those measured, lets each measurement weigh alike.

        Args:
            outputs: logits `[n, labels]`.
            targets: as in `Split`.
        """
        measured = ~targets.isnan()
        known = torch.where(measured, targets, 0.0).to(outputs)
        losses = F.binary_cross_entropy_with_logits(outputs, known, reduction="none")
        return (losses * measured).mean(1)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Area under the ROC curve, in [0, 1]: the mean over labels of which both classes were measured, as in OGB.

        NaN if there is no such label, or if an output is not finite.
        """
        from sklearn.metrics import roc_auc_score  # a second to load, and needed here only

        return _mean_over_labels(roc_auc_score, outputs, targets)

    def further_scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Average precision, OGB's measure for ogbg-molpcba: the mean over the same labels."""
        from sklearn.metrics import average_precision_score

        return {"average_precision": _mean_over_labels(average_precision_score, outputs, targets)}

    def _read(self, data_dir: Path | None) -> tuple[Molecules, Path]:
        published = self.data_sets[self.dataset]
        folder = published.folder(data_dir)
        if folder is None:
            raise published.missing(data_dir)
        molecules = read_molecules(folder, published, self.partial)
        available = {"labels": molecules.labels.shape[1]}
        available |= {f"{split}_size": len(rows) for split, rows in molecules.rows.items()}
        for field, there in available.items():
            if (asked := getattr(self, field) or 0) > there:
                raise DataError(f"task.{field} is {asked:,}, but {folder} has {there:,}: ask for fewer")
        return molecules, folder

    def _chosen(self, molecules: Molecules) -> np.ndarray:
        """Numbers of the labels, in order."""
        measured = np.isfinite(molecules.labels[molecules.rows["train"]]).sum(0)
        return np.sort(np.argsort(-measured, kind="stable")[: self.labels])

    def _split(
        self, molecules: Molecules, split: str, labels: np.ndarray, table: Path, read: Callable[[str], Any]
    ) -> Split:
        from tangentscope.tasks.graphs import Graphs  # loads PyTorch Geometric, which takes seconds

        # These draws are part of a run's identity, and only RandomState promises the same ones in every numpy release.
        rows = molecules.rows[split]
        drawn = rows[np.random.RandomState(self.data_seed).permutation(len(rows))[: getattr(self, f"{split}_size")]]
        graphs = []
        for row in drawn.tolist():
            smiles = molecules.smiles[row]
            if (graph := read(smiles)) is None:
                raise DataError(
                    f"{table} has no molecule that rdkit can read in row {row}, but {smiles[:60]!r}: put an undamaged "
                    "copy there or take the row out of the splits"
                )
            graphs.append(graph)
        return Split(Graphs(graphs), torch.from_numpy(molecules.labels[drawn][:, labels]))

    def _source(self, molecules: Molecules) -> str:
        title, there = self.data_sets[self.dataset].title, {split: len(molecules.rows[split]) for split in SPLITS}
        drawn = [f"{getattr(self, f'{split}_size') or n:,} of {n:,} {split}" for split, n in there.items()]
        known = molecules.labels.shape[1]
        return (
            f"{title}, {', '.join(drawn)} molecules (data_seed {self.data_seed}) and {self.labels or known} of {known} "
            f"labels from {molecules.origin}, read by rdkit {rdkit_version()}"
        )


def _mean_over_labels(score: Callable[..., Any], outputs: Tensor, targets: Tensor) -> float:
    logits, labels = outputs.detach().double().cpu().numpy(), targets.cpu().numpy()
    if not np.isfinite(logits).all():
        return float("nan")  # of a network that has diverged
    found = []
    for logit, label in zip(logits.T, labels.T, strict=True):
        measured = label[np.isfinite(label)]
        if 0 < measured.sum() < len(measured):
            found.append(score(measured, logit[np.isfinite(label)]))
    return float(np.mean(found)) if found else float("nan")
