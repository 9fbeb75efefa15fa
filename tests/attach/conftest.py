from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import InProcess, no_ray
from torch import nn

from tangentscope import pipeline
from tangentscope.pipeline.cluster import joining, scheduler
from tangentscope.pipeline.driver.attach import watch as watching


@pytest.fixture(autouse=True)
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[InProcess]]:
    """No Ray is started."""
    monkeypatch.setattr(scheduler, "Crew", InProcess)
    monkeypatch.setattr(joining, "joined", no_ray)
    monkeypatch.setattr("tangentscope.pipeline.report.write_report", lambda storage: None)  # tests/report draw it
    yield InProcess
    for watch in [*watching._open.values()]:
        watch.close()


@pytest.fixture
def attach(tmp_path: Path) -> Callable[..., Any]:
    """`pipeline.attach` with something for all that it must be given."""

    def attached(model: nn.Module, out: str = "mine", **asked: Any) -> Any:
        torch_points = torch.linspace(-1, 1, 24).reshape(8, 3), torch.arange(8) % 2
        usual = {"steps": 4, "train": torch_points, "schedule": {"every": {"steps": 1}}, "variables": ["trace"]}
        return pipeline.attach(model, tmp_path / out, **{**usual, "offline": True, "quiet": True, **asked})

    return attached
