import sys
from pathlib import Path

import pytest
from command_line import Command, Said

from tangentscope.pipeline import cli

# The studies on disk of the pipeline's tests serve here too.
sys.path.insert(0, str(Path(__file__).parent.parent / "pipeline"))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The output directory of a study that has finished."""
    from study_on_disk import write_study

    write_study(tmp_path / "results" / "study")
    return tmp_path / "results" / "study"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the command line in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("TANGENTSCOPE_DATA", raising=False)

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["tangentscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Said(int(ended.value.code or 0), *capsys.readouterr())

    return run
