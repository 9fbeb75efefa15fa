import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxtend.data import autompg_data
from published_files import cars, made_published, write_cars

from tangentscope.tasks import AutoMpg, DataError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """30 cars, 2 of them of unknown horsepower."""
    return write_cars(tmp_path / "auto_mpg") / "auto-mpg.data"


def numbers(lines: list[str]) -> np.ndarray:
    """What the file says: the target, six numbers and three origins of each car of known horsepower."""
    rows = [line.split("\t")[0].split() for line in lines]
    table = np.array([[float(value) for value in row] for row in rows if "?" not in row])
    return np.column_stack([table[:, :7], *(table[:, 7] == origin for origin in (1, 2, 3))])


def test_cars_are_split_and_standardised_on_the_training_cars(file: Path, tmp_path: Path):
    data = AutoMpg(test_share=0.25, data_seed=3).load(tmp_path)
    table = numbers(cars())
    order = np.random.RandomState(3).permutation(28)
    mean, std = table[order[7:]].mean(0), table[order[7:]].std(0)
    std[std == 0] = 1
    for split, chosen in [(data.test, order[:7]), (data.train, order[7:])]:
        expected = torch.from_numpy((table[chosen] - mean) / std).float()
        torch.testing.assert_close(split.inputs, expected[:, 1:])
        torch.testing.assert_close(split.targets, expected[:, :1])
    assert (data.input_shape, data.outputs) == ((9,), 1)
    assert data.source == (
        "Auto MPG, 21 train and 7 test cars (data_seed 3) of a file that is not UCI's "
        f"{file} (2 of 30 left out as their horsepower is unknown)"
    )


def test_ucis_file_is_recognised(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made_published(monkeypatch, AutoMpg, file.parent)
    assert f"of UCI's file {file} (" in AutoMpg().load(tmp_path).source


def test_the_file_may_lie_in_the_data_directory_itself(file: Path, tmp_path: Path):
    assert AutoMpg(source="uci").load(file.parent).fingerprint == AutoMpg().load(tmp_path).fingerprint


def test_without_a_file_the_cars_are_mlxtends(tmp_path: Path):
    data, x, y = AutoMpg().load(), *autompg_data()
    assert " 314 train and 78 test cars (data_seed 0) of the 392 of known horsepower that mlxtend" in data.source
    everything = torch.cat([torch.cat([split.targets, split.inputs], 1) for split in (data.train, data.test)])
    columns = np.column_stack([y, x[:, :6]])
    for found, expected in zip(everything.T, columns.T, strict=False):
        # Whatever the standardisation took away and divided by.
        assert abs(np.corrcoef(np.sort(found.numpy()), np.sort(expected))[0, 1] - 1) < 1e-6
    assert AutoMpg().load(tmp_path).source == f"{data.source}, as {tmp_path} has no Auto MPG"
    assert data.train.inputs.mean(0).abs().max() < 1e-6
    assert (data.train.inputs.std(0, correction=0) - 1).abs().max() < 1e-6
    assert data.train.targets.mean().abs() < 1e-6
    assert data.test.inputs.mean(0).abs().max() > 1e-3, "test cars have no part in it"


def test_the_same_fields_give_the_same_data_for_ever():
    assert AutoMpg().load().fingerprint == "895fa2c706abe615"
    assert AutoMpg(test_share=0.5, data_seed=7).load().fingerprint == "3c6ed48be502e641"


@pytest.mark.parametrize(
    ("number", "line"),
    [
        pytest.param(30, cars()[29][:40], id="cut off"),
        pytest.param(30, cars()[29][:-1], id="cut off in the name"),
        pytest.param(2, "", id="empty"),
        pytest.param(5, cars()[4].replace("307.0", "x07.0"), id="no number"),
        pytest.param(5, "1 " + cars()[4], id="a number too many"),
        pytest.param(6, cars()[5].replace("307.0", "?"), id="unknown displacement"),
        pytest.param(5, cars()[4].replace('  2\t"', '  4\t"'), id="no such origin"),
        pytest.param(1, "<html>404 Not Found</html>", id="another file"),
    ],
)
def test_a_damaged_file_is_named_with_the_line(file: Path, tmp_path: Path, number: int, line: str):
    lines = cars()
    assert lines[number - 1] != line
    lines[number - 1] = line
    file.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        AutoMpg().load(tmp_path)
    assert str(caught.value).startswith(f"{file} is damaged in line {number}: got ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [(b"", "no car of known horsepower"), (b"\xff\xfe", "cannot be read")])
def test_a_file_without_cars_is_named(file: Path, tmp_path: Path, content: bytes, said: str):
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"auto-mpg\.data .*{said}.*: put an undamaged copy there"):
        AutoMpg().load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="absent"),
        pytest.param(b"no gzip", id="no gzip"),
        pytest.param(gzip.compress(b"1,2\n"), id="too few columns"),
        pytest.param(gzip.compress(b"1,2,3,4,5,6,7,a,8\n"), id="no number"),
    ],
)
def test_a_damaged_mlxtend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None):
    table = tmp_path / "data" / "data" / "autompg.csv.gz"
    table.parent.mkdir(parents=True)
    if content is not None:
        table.write_bytes(content)
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(DataError, match=r"mlxtend's .*autompg.csv.gz .*: reinstall mlxtend"):
        AutoMpg().load()


def test_a_share_that_leaves_a_split_empty_is_refused():
    with pytest.raises(DataError, match=r"test_share 0\.001 makes 0 of 392 cars test cars"):
        AutoMpg(test_share=0.001).load()
    with pytest.raises(DataError, match=r"test_share 0\.9999 makes 392 of 392 cars"):
        AutoMpg(test_share=0.9999).load()


def test_the_gradient_of_the_loss_is_the_residual():
    outputs, targets = torch.randn(5, 1, requires_grad=True), torch.randn(5, 1)
    losses = AutoMpg().loss(outputs, targets)
    assert losses.shape == (5,)
    losses.sum().backward()
    torch.testing.assert_close(outputs.grad, (outputs - targets).detach())


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 40), st.integers(0, 99), st.floats(0.1, 10), st.floats(-5, 5))
def test_r2_is_one_minus_the_unexplained_share(n: int, seed: int, scale: float, shift: float):
    targets = torch.randn(n, 1, generator=torch.Generator().manual_seed(seed))
    noise = torch.randn(n, 1, generator=torch.Generator().manual_seed(seed + 1))
    task = AutoMpg()
    assert task.score(targets, targets) == 1
    assert task.score(targets.mean().expand(n, 1), targets) == pytest.approx(0, abs=1e-5)
    expected = 1 - float(noise.double().square().mean() / targets.double().var(correction=0))
    assert task.score(targets + noise, targets) == pytest.approx(expected, rel=1e-4)
    moved = task.score(scale * (targets + noise) + shift, scale * targets + shift)
    assert moved == pytest.approx(expected, rel=1e-2, abs=1e-3), "whatever the unit"


REAL = Path(os.environ.get("TANGENTSCOPE_DATA", "none"))


@pytest.mark.skipif(
    not (REAL / "auto_mpg/auto-mpg.data").is_file(), reason="TANGENTSCOPE_DATA names no folder with auto_mpg"
)
def test_ucis_real_file_holds_the_cars_that_mlxtend_ships():
    data = AutoMpg(source="uci").load(REAL)
    assert "of UCI's file" in data.source
    assert "6 of 398 left out" in data.source
    assert data.fingerprint == AutoMpg(source="mlxtend").load().fingerprint
