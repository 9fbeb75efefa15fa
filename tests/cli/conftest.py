import sys
from pathlib import Path

import pytest

# The studies on disk of the pipeline's tests serve here too.
sys.path.insert(0, str(Path(__file__).parent.parent / "pipeline"))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The output directory of a study that has finished."""
    from study_on_disk import write_study

    write_study(tmp_path / "results" / "study")
    return tmp_path / "results" / "study"
