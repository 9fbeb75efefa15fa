"""Molecules as graphs: from SMILES by rdkit, with the features of atoms and bonds that OGB's molecules have.

The features and the order of their codes are those of the Open Graph Benchmark (Hu et al. 2020, arXiv:2005.00687,
`ogb.utils.features` of version 1.3), so that a network means the same here and there.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tangentscope.tasks.errors import DataError

if TYPE_CHECKING:
    from torch_geometric.data import Data

# Atomic number, chirality, degree, charge, hydrogens, radical electrons, hybridisation, aromatic or not, in a ring or
# not. The last code stands for whatever has none of its own ("misc"), but for the last two, which are 0 or 1.
ATOM_CODES = (119, 5, 12, 12, 10, 6, 6, 2, 2)
# Type (the last is "misc"), stereo (the last, "any", takes what has no code), conjugated or not.
BOND_CODES = (5, 6, 2)

CHIRALITIES = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER")
HYBRIDISATIONS = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
STEREO = ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY")
LARGEST_CHARGE = 5


def rdkit_version() -> str:
    """Which rdkit reads SMILES here.

    Raises:
        DataError: if none is installed.
    """
    try:
        import rdkit
    except ImportError:
        raise DataError(
            "molecules are read by rdkit, which is not here: pip install 'tangentscope[molecules]'"
        ) from None
    return rdkit.__version__


@contextmanager
def reader() -> Iterator[Callable[[str], "Data | None"]]:
    """A function from SMILES to the graph, or to None of what rdkit cannot read; it keeps rdkit's log silent.

    A graph has `x` `[atoms, 9]`, `edge_index` `[2, 2·bonds]` and `edge_attr` `[2·bonds, 3]`; codes are int32. Atoms
    stand in the order of the SMILES, each bond in both directions, one after the other.

    Raises:
        DataError: if rdkit is not installed.
    """
    rdkit_version()
    from rdkit import Chem, rdBase
    from torch_geometric.data import Data  # seconds to load, and needed here only

    chirality = _numbered(Chem.ChiralType, CHIRALITIES)
    hybridisation = _numbered(Chem.HybridizationType, HYBRIDISATIONS)
    kind, stereo = _numbered(Chem.BondType, BONDS), _numbered(Chem.BondStereo, STEREO)

    def atom_codes(atom: Any) -> tuple[int, ...]:
        return (
            _counted(atom.GetAtomicNum() - 1, ATOM_CODES[0]),
            chirality.get(atom.GetChiralTag(), ATOM_CODES[1] - 1),
            _counted(atom.GetTotalDegree(), ATOM_CODES[2]),
            _counted(atom.GetFormalCharge() + LARGEST_CHARGE, ATOM_CODES[3]),
            _counted(atom.GetTotalNumHs(), ATOM_CODES[4]),
            _counted(atom.GetNumRadicalElectrons(), ATOM_CODES[5]),
            hybridisation.get(atom.GetHybridization(), ATOM_CODES[6] - 1),
            int(atom.GetIsAromatic()),
            int(atom.IsInRing()),
        )

    def bond_codes(bond: Any) -> tuple[int, ...]:
        return (
            kind.get(bond.GetBondType(), BOND_CODES[0] - 1),
            stereo.get(bond.GetStereo(), BOND_CODES[1] - 1),
            int(bond.GetIsConjugated()),
        )

    def read(smiles: str) -> "Data | None":
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or not molecule.GetNumAtoms():
            return None
        atoms = _table((atom_codes(atom) for atom in molecule.GetAtoms()), len(ATOM_CODES))
        bonds = _table((bond_codes(bond) for bond in molecule.GetBonds()), len(BOND_CODES))
        ends = _table(((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()), 2)
        both = np.stack([ends, ends[:, ::-1]], 1).reshape(-1, 2)
        return Data(
            x=torch.from_numpy(atoms),
            edge_index=torch.from_numpy(np.ascontiguousarray(both.T, np.int64)),
            edge_attr=torch.from_numpy(bonds.repeat(2, 0)),
        )

    with rdBase.BlockLogs():
        yield read


def _numbered(enum: Any, names: tuple[str, ...]) -> dict[Any, int]:
    return {getattr(enum, name): number for number, name in enumerate(names)}


def _counted(value: int, codes: int) -> int:
    """A count as its own code; the last code of all if there is none for it."""
    return value if 0 <= value < codes - 1 else codes - 1


def _table(rows: Iterable[tuple[int, ...]], columns: int) -> np.ndarray:
    return np.array(list(rows), np.int32).reshape(-1, columns)
