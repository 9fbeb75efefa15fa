import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import study_on_disk

from tangentscope.pipeline.store.files import Storage

# The synthetic data of the tasks' tests serve here too.
sys.path.insert(0, str(Path(__file__).parent.parent / "tasks"))


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Storage, dict[str, Any]]:
    """A study of two runs of which nothing has been done."""
    return study_on_disk.write_plan(tmp_path / "results" / "study")


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, dict[str, Any]]:
    return study_on_disk.write_study(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def finished(_finished: tuple[Storage, dict[str, Any]], tmp_path: Path) -> tuple[Storage, dict[str, Any]]:
    """The same study, finished and measured: a copy, since to make it all anew takes as long as most tests."""
    shutil.copytree(_finished[0].uri, tmp_path / "results" / "study")
    return Storage.at(tmp_path / "results" / "study"), copy.deepcopy(_finished[1])


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A study of its own for each test: experiments are found by it."""
    return f"name={''.join(c for c in request.node.name if c.isalnum())}"
