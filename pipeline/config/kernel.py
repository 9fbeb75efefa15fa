"""What one measurement takes the kernel of."""

from typing import Annotated, Literal

from pydantic import Field

from tangentscope.pipeline.config.validation import Strict

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Kernel(Strict):
    """What one measurement takes the kernel of: `draws` kernels on `size` data points each (CV §4: 200 of 20)."""

    outputs: Literal["full", "traced", "summed"] = "full"
    draws: int = Field(default=1, ge=1, le=100_000)
    size: int = Field(default=100, ge=1)
    seed: Seed = 0
