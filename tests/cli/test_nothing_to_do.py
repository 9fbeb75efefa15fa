"""A command that finds nothing missing starts no Ray, and says so in one line."""

from pathlib import Path
from typing import Any

import pytest
from command_line import Command

from tangentscope.pipeline.driver import run
from tangentscope.pipeline.store import layout


def test_retry_of_a_finished_study(finished: Path, command: Command, monkeypatch: pytest.MonkeyPatch):
    from study_on_disk import small_study

    def started(*given: Any) -> None:
        raise AssertionError("Ray was wanted")

    (finished / layout.STUDY).write_text(small_study()[0].text())
    monkeypatch.setattr(run, "execute", started)
    said = command("retry", finished, "--offline")
    assert said.code == 0, said.err
    assert said.out.startswith("nothing to do: ")
    assert said.out.count("\n") == 1
