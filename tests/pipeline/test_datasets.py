"""What `data where` and `data fetch` say and do. The network is never asked: downloads are faked."""

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
from published_files import TEST_LABELS, made_published, write_molecules, written

from tangentscope.pipeline.cli import data
from tangentscope.pipeline.cli.data import get, look
from tangentscope.pipeline.system.errors import UserError
from tangentscope.tasks import TASKS, Cifar10, Mnist, Task

EVERY = [name for name, task in TASKS.items() if task.published]


def found(name: str, data_dir: Path | None) -> data.Found:
    """Of a task with several data sets, the default one."""
    return next(look([name], data_dir))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_without_data_only_what_packages_ship_is_there():
    states = {each.task: each.state for each in look([], None)}
    every = [f"{name} {data_set}".strip() for name in EVERY for data_set in TASKS[name].data_sets or [""]]
    assert states == dict.fromkeys(every, "absent") | {"mnist": "ok", "mnist_vae": "ok", "auto_mpg": "ok"}


@pytest.mark.parametrize("name", EVERY)
def test_data_are_found_where_they_are_looked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = written(name, tmp_path)
    there = found(name, tmp_path)
    assert there.state == ("partial" if "partial" in TASKS[name].model_fields else "ok")
    assert folder in there.places
    assert str(folder) in there.told
    made_published(monkeypatch, TASKS[name], folder)
    assert found(name, tmp_path).state == "ok"
    for path in files(folder):
        path.write_bytes(b"damaged")
    assert found(name, tmp_path).state == "WRONG"


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "cifar100", "molecules"])
def test_data_that_are_absent_are_told_with_what_to_do(name: str, tmp_path: Path):
    absent = found(name, tmp_path)
    assert absent.state == "absent"
    published = TASKS[name].published
    assert published is not None
    assert f"`tangentscope data fetch {published.name}`" in absent.told
    assert [str(place) for place in absent.places if str(place) not in absent.told] == []


def test_where_prints_each_task_and_its_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = written("mnist", tmp_path)
    assert data.where("mnist", "cifar10", data_dir=tmp_path) == 0
    first, places, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("ok       mnist: MNIST, 30 of 30 train")
    assert places == f"         looked for in {folder}, then {tmp_path}/MNIST/raw"
    assert second.startswith("absent   cifar10: no CIFAR-10 in ")
    (folder / TEST_LABELS).unlink()
    assert data.where(data_dir=tmp_path) == 1
    assert "WRONG    mnist: " in capsys.readouterr().out
    assert data.where("mnist", data_dir=None) == 0
    assert "looked for in $TANGENTSCOPE_DATA/mnist/MNIST/raw" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda place: list(look(["mnst"], None)), 'task "mnst" unknown; allowed: .*; did you mean "mnist"'),
        (lambda place: list(look([], place / "none")), "data directory .*none: not there"),
        (lambda place: get("mnst", place), 'task "mnst" unknown'),
        (
            lambda place: get("molecules", place, "tox"),
            'task molecules: data set "tox" unknown; .*did you mean "tox21"',
        ),
        (lambda place: get("mnist", place, "digits"), 'task mnist: data set "digits" unknown'),
        (lambda place: get("mnist", None), "no data directory; name one with --data-dir or TANGENTSCOPE_DATA"),
    ],
)
def test_bad_input_gets_one_line(call: Callable[[Path], object], said: str, tmp_path: Path):
    with pytest.raises(UserError, match=said):
        call(tmp_path)


# fetching


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets a task's published files be small synthetic ones, and its download write them, or fail as told."""

    def arrange(task: type[Task], name: str, download: Callable[[Path], object] | None = None) -> None:
        published = task.published
        assert published is not None
        made_published(monkeypatch, task, written(name, tmp_path / "publisher"))

        def copy(root: Path) -> None:
            source, folder = published.folders(tmp_path / "publisher")[0], root / published.layout
            folder.mkdir(parents=True, exist_ok=True)
            for path in files(source):
                target = folder / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
                target.with_name(f"{path.name}.gz").write_bytes(b"what torchvision leaves behind")

        monkeypatch.setattr(task, "published", replace(published, download=download or copy))

    return arrange


@pytest.mark.parametrize("name", EVERY)
def test_what_is_fetched_lies_where_it_is_looked_for(name: str, tmp_path: Path, publisher: Callable[..., None]):
    publisher(TASKS[name], name)
    data_dir, published = tmp_path / "data", TASKS[name].published
    assert published is not None
    said = get(name, data_dir)
    folder = published.folders(data_dir)[0]
    assert said == f"{published.title} is in {folder}: {len(published.md5)} file(s), sums as published"
    assert {path.relative_to(folder).as_posix() for path in files(folder)} == set(published.md5)
    assert {path.name for path in data_dir.iterdir()} == {folder.relative_to(data_dir).parts[0]}, "nothing else is left"
    assert (found(name, data_dir).state, folder.name in found(name, data_dir).told) == ("ok", True)
    assert get(name, data_dir) == f"{published.title} is there already: {folder}"


def test_only_what_is_missing_is_added(tmp_path: Path, publisher: Callable[..., None]):
    publisher(Mnist, "mnist")
    data_dir = tmp_path / "data"
    get("mnist", data_dir)
    folder = data_dir / "mnist/MNIST/raw"
    (folder / TEST_LABELS).unlink()
    for path in folder.iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert "sums as published" in get("mnist", data_dir)
    assert (folder / TEST_LABELS).is_file()
    assert "is there already" in get("mnist", data_dir)


def test_other_files_are_not_written_over(tmp_path: Path, publisher: Callable[..., None]):
    folder = written("cifar10", tmp_path / "data")
    mine = b"my own subset"
    (folder / "data_batch_2").write_bytes(mine)
    publisher(Cifar10, "cifar10")
    with pytest.raises(UserError, match=r"cifar-10-batches-py: data_batch_2 not as published; move that folder away"):
        get("cifar10", tmp_path / "data")
    assert (folder / "data_batch_2").read_bytes() == mine


def test_a_damaged_archive_is_no_published_file(tmp_path: Path, publisher: Callable[..., None]):
    publisher(Mnist, "mnist")
    get("mnist", tmp_path / "data")
    path = tmp_path / "data/mnist/MNIST/raw" / TEST_LABELS
    path.with_name(f"{TEST_LABELS}.gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()
    with pytest.raises(UserError, match=f"{TEST_LABELS} not as published"):
        get("mnist", tmp_path / "data")


def no_network(root: Path) -> None:
    raise URLError("Name or service not known")


def refused(root: Path) -> None:
    raise RuntimeError("Error downloading x:\nTried y, got:\nz")


def cut_off(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"half")


@pytest.mark.parametrize("download", [no_network, refused, cut_off])
def test_what_cannot_be_fetched_is_told_with_what_to_put_where(
    tmp_path: Path, publisher: Callable[..., None], download: Callable[[Path], object]
):
    publisher(Cifar10, "cifar10", download)
    data_dir = tmp_path / "data"
    with pytest.raises(UserError) as caught:
        get("cifar10", data_dir)
    line = str(caught.value)
    assert "\n" not in line
    files = ", ".join(Cifar10.published.md5)
    place = f"from https://www.cs.toronto.edu/~kriz/cifar.html and put that in {data_dir}/cifar10/cifar-10-batches-py"
    assert re.fullmatch(rf"CIFAR-10 could not be fetched \(.+\); get {files} {re.escape(place)}", line)
    assert list(data_dir.iterdir()) == [], "nothing half-fetched"


def test_each_data_set_of_a_task_is_looked_for_and_fetched_by_its_name(tmp_path: Path):
    write_molecules(tmp_path / "ogbg_molpcba")
    states = {each.task: each.state for each in look(["molecules"], tmp_path)}
    absent = dict.fromkeys(("molecules tox21", "molecules toxcast", "molecules muv"), "absent")
    assert states == absent | {"molecules molpcba": "partial"}
    with pytest.raises(UserError) as caught:
        get("molecules", tmp_path, "muv")
    assert str(caught.value) == (
        "MUV could not be fetched (RuntimeError: OGB gives no sum to check its archive by); get mapping/mol.csv.gz, "
        "split/scaffold/train.csv.gz, split/scaffold/valid.csv.gz, split/scaffold/test.csv.gz from "
        "https://snap.stanford.edu/ogb/data/graphproppred/csv_mol_download/muv.zip and put that in "
        f"{tmp_path}/molecules/muv"
    )


def test_a_task_of_ones_own_without_published_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    class Own(Mnist, frozen=True):
        """Fails in a way of its own."""

        def load(self, data_dir: Path | None = None) -> None:  # type: ignore[override]
            raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Own, "published", None)
    monkeypatch.setitem(TASKS, "own", Own)
    monkeypatch.setattr(Own, "model_validate", lambda fields: Own())
    wrong = found("own", tmp_path)
    assert (wrong.state, wrong.told, wrong.places) == ("WRONG", "ZeroDivisionError: division by zero", [])
    with pytest.raises(UserError, match="task own: reads no published data"):
        get("own", tmp_path)
