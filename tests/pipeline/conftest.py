from pathlib import Path
from typing import Any

import pytest
import study_on_disk

from pipeline.storage import Storage


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Storage, dict[str, Any]]:
    """A study of two runs of which nothing has been done."""
    return study_on_disk.write_plan(tmp_path / "results" / "study")


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Storage, dict[str, Any]]:
    """The same study, finished and measured."""
    return study_on_disk.write_study(tmp_path / "results" / "study")
