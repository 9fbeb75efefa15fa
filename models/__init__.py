"""Architectures, one file each.

A model is a frozen config whose fields a study file spells out, and whose `build` makes the `torch.nn.Module`. To
add one, write `models/cnn.py`:

    class CNN(Model, frozen=True):
        name: Literal["cnn"] = "cnn"
        channels: int = Field(ge=1)

        version: ClassVar[int] = 1

        def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module: ...

and add its line to `MODELS`. Models do not import each other.
"""

from models.base import Model
from models.mlp import MLP

MODELS: dict[str, type[Model]] = {
    "mlp": MLP,
}

__all__ = ["MLP", "MODELS", "Model"]
