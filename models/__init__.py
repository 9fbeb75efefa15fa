"""Architectures, one file each.

A model is a frozen config whose fields a study file spells out, and whose `build` makes the `torch.nn.Module`. To
add one, write `models/bottleneck.py`:

    class Bottleneck(Model, frozen=True):
        name: Literal["bottleneck"] = "bottleneck"
        waist: int = Field(ge=1)

        version: ClassVar[int] = 1

        def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module: ...

and add its line to `MODELS`. Models do not import each other.
"""

from tangentscope.models.actor_critic import ActorCritic
from tangentscope.models.base import Model, ModelError
from tangentscope.models.cnn import CNN
from tangentscope.models.gcn import GCN
from tangentscope.models.gin import GIN
from tangentscope.models.lstm import LSTM
from tangentscope.models.mlp import MLP
from tangentscope.models.resnet18 import ResNet18
from tangentscope.models.s4d import S4D
from tangentscope.models.solvable.diagonal_linear import DiagonalLinear
from tangentscope.models.solvable.linear import Linear
from tangentscope.models.solvable.linear_net import LinearNet
from tangentscope.models.solvable.multilinear import Multilinear
from tangentscope.models.solvable.scalar_net import ScalarNet
from tangentscope.models.solvable.skill_bases import SkillBases
from tangentscope.models.transformer import Transformer
from tangentscope.models.vae import VAE
from tangentscope.models.vgg16 import VGG16
from tangentscope.models.vit import ViT

MODELS: dict[str, type[Model]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet18": ResNet18,
    "vgg16": VGG16,
    "vit": ViT,
    "vae": VAE,
    "transformer": Transformer,
    "lstm": LSTM,
    "s4d": S4D,
    "gin": GIN,
    "gcn": GCN,
    "actor_critic": ActorCritic,
    "linear": Linear,
    "diagonal_linear": DiagonalLinear,
    "linear_net": LinearNet,
    "multilinear": Multilinear,
    "skill_bases": SkillBases,
    "scalar_net": ScalarNet,
}

__all__ = [
    "CNN",
    "GCN",
    "GIN",
    "LSTM",
    "MLP",
    "MODELS",
    "S4D",
    "VAE",
    "VGG16",
    "ActorCritic",
    "DiagonalLinear",
    "Linear",
    "LinearNet",
    "Model",
    "ModelError",
    "Multilinear",
    "ResNet18",
    "ScalarNet",
    "SkillBases",
    "Transformer",
    "ViT",
]
