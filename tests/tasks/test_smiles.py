"""Graphs of molecules whose atoms and bonds can be told by hand, by OGB's table of features (arXiv:2005.00687)."""

import sys

import pytest
import torch
from torch_geometric.data import Data

from tangentscope.tasks import DataError
from tangentscope.tasks.readers.smiles import ATOM_CODES, BOND_CODES, reader

# Columns of atoms.
ELEMENT, CHIRALITY, DEGREE, CHARGE, HYDROGENS, RADICALS, HYBRIDISATION, AROMATIC, RING = range(9)
SP, SP2, SP3 = range(3)


def graph(smiles: str) -> Data:
    with reader() as read:
        found = read(smiles)
    assert found is not None
    return found


def test_ethanol():
    found = graph("CCO")
    carbon, neutral = 5, 5
    assert found.x.tolist() == [
        [carbon, 0, 4, neutral, 3, 0, SP3, 0, 0],
        [carbon, 0, 4, neutral, 2, 0, SP3, 0, 0],
        [7, 0, 2, neutral, 1, 0, SP3, 0, 0],
    ]
    assert found.edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert found.edge_attr.tolist() == [[0, 0, 0]] * 4


def test_a_single_atom_has_no_bonds():
    found = graph("C")
    assert found.x.shape == (1, len(ATOM_CODES))
    assert found.edge_index.shape == (2, 0)
    assert found.edge_attr.shape == (0, len(BOND_CODES))
    assert found.edge_index.dtype == torch.int64


@pytest.mark.parametrize(
    ("smiles", "column", "codes"),
    [
        ("[Na+].[Cl-]", CHARGE, [6, 4]),
        ("[Fe+6]", CHARGE, [11]),
        ("[NH4+]", HYDROGENS, [4]),
        ("[CH3]", RADICALS, [1]),
        ("C#C", HYBRIDISATION, [SP, SP]),
        ("FS(F)(F)(F)(F)F", HYBRIDISATION, [SP3, 4, *[SP3] * 5]),
        ("c1ccsc1", AROMATIC, [1] * 5),
        ("C1CC1C", RING, [1, 1, 1, 0]),
        ("N[C@@H](C)O", CHIRALITY, [0, 1, 0, 0]),
        ("N[C@H](C)O", CHIRALITY, [0, 2, 0, 0]),
        ("FS(F)(F)(F)(F)F", DEGREE, [1, 6, *[1] * 5]),
        ("[Og]", ELEMENT, [117]),
        ("*C", ELEMENT, [118, 5]),
    ],
)
def test_features_of_atoms(smiles: str, column: int, codes: list[int]):
    assert graph(smiles).x[:, column].tolist() == codes


@pytest.mark.parametrize(
    ("smiles", "bonds"),
    [
        ("CC", [[0, 0, 0]]),
        ("C#N", [[2, 0, 0]]),
        ("F/C=C/F", [[0, 0, 0], [1, 2, 0], [0, 0, 0]]),
        ("F/C=C\\F", [[0, 0, 0], [1, 1, 0], [0, 0, 0]]),
        ("C=CC=C", [[1, 0, 1], [0, 0, 1], [1, 0, 1]]),
        ("c1ccccc1", [[3, 0, 1]] * 6),
        ("N->[Cu]", [[4, 0, 0]]),
    ],
)
def test_features_of_bonds_stand_twice(smiles: str, bonds: list[list[int]]):
    found = graph(smiles)
    assert found.edge_attr[::2].tolist() == bonds
    assert torch.equal(found.edge_attr[::2], found.edge_attr[1::2])
    assert torch.equal(found.edge_index[:, ::2], found.edge_index[:, 1::2].flip(0)), "in both directions"


def test_codes_are_within_their_vocabularies():
    for smiles in ("*->[Fe+6](<-*)[U]", "C12C3C4C1C5C2C3C45", "[H][H]", "[2H]O[2H]", "C/C=N/O", "CC(C)=[N+]=[N-]"):
        found = graph(smiles)
        for codes, counts in [(found.x, ATOM_CODES), (found.edge_attr, BOND_CODES)]:
            assert codes.shape[1] == len(counts)
            assert (codes >= 0).all()
            assert (codes < torch.tensor(counts)).all()


@pytest.mark.parametrize("smiles", ["C1CC", "", "Xx", "C(C)(C)(C)(C)C"])
def test_what_is_no_molecule_is_none(smiles: str, capfd: pytest.CaptureFixture[str]):
    with reader() as read:
        assert read(smiles) is None
    assert capfd.readouterr().err == "", "rdkit's log stays silent"


def test_without_rdkit_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(DataError, match=r"pip install 'tangentscope\[molecules\]'$"), reader():
        pass
