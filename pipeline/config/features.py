"""What one measurement takes features of: the last hidden layer at points to learn from and at held-out ones."""

from collections.abc import Mapping

from pydantic import Field, field_validator

from tangentscope.pipeline.config.kernel import Seed
from tangentscope.pipeline.config.validation import Strict
from tangentscope.pipeline.system.errors import nearest
from tangentscope.probes import FEATURE_VARIABLES, VARIABLES
from tangentscope.probes.variables.variable import Variable

MEASURED: Mapping[str, Variable] = {**VARIABLES, **FEATURE_VARIABLES}
"""All that a study can measure, of kernels and of features, by name."""

FEATURES = "features"
"""What stands for the treatment of outputs of a probe that is of features."""

BOTH = "both"
"""What stands for its split, as it takes points of two."""

_ASKS_FOR_MORE = {"learnability": "a number of points to learn from, which only feature_metrics() takes"}


class FeaturePoints(Strict):
    """Numbers of training and held-out points (Nam §2.5: 10,000 and 2000), and the variables that are measured."""

    train: int = Field(default=10_000, ge=1)
    test: int = Field(default=2000, ge=1)
    variables: tuple[str, ...] = Field(min_length=1)
    seed: Seed = 0

    @field_validator("variables")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in FEATURE_VARIABLES:
                raise ValueError(f'feature variable "{name}" unknown; {nearest(name, FEATURE_VARIABLES)}')
            if name in _ASKS_FOR_MORE:
                raise ValueError(f"{name} needs {_ASKS_FOR_MORE[name]}; leave it out")
        if len(set(names)) < len(names):
            raise ValueError(f"each may stand once, got {', '.join(names)}")
        return names
