"""docs/features.md is true: its code runs, and it has all variables."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from tangentscope.probes import FEATURE_VARIABLES

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text()


def test_the_code_does_what_it_says(capsys):
    namespace: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(block, namespace)
    metrics, features = namespace["metrics"], namespace["features"]
    assert metrics.regime in ("minimum feature", "extended feature")
    assert metrics["quality_cumulative"].shape == (32,)
    assert not any(np.isnan(value) for value in metrics.values.values())
    assert (features.values.shape, features.outputs.shape, features.layer) == ((2000, 32), (2000, 4), "4")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["0", "2", "4"]


def test_every_variable_is_explained():
    table = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])} == set(FEATURE_VARIABLES)
