"""Architectures, one file each.

A model is a frozen config whose fields a study file spells out, and whose `build` makes the `torch.nn.Module`. To
add one, write `models/bottleneck.py`:

    class Bottleneck(Model, frozen=True):
        name: Literal["bottleneck"] = "bottleneck"
        waist: int = Field(ge=1)

        version: ClassVar[int] = 1

        def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module: ...

and import it below, by one line: `MODELS` has every model that is imported here. Models do not import each other.
"""

from tangentscope.models.actor_critic import ActorCritic as ActorCritic
from tangentscope.models.base import Model as Model
from tangentscope.models.base import ModelError as ModelError
from tangentscope.models.base import models_among
from tangentscope.models.cnn import CNN as CNN
from tangentscope.models.gcn import GCN as GCN
from tangentscope.models.gin import GIN as GIN
from tangentscope.models.lstm import LSTM as LSTM
from tangentscope.models.mlp import MLP as MLP
from tangentscope.models.resnet18 import ResNet18 as ResNet18
from tangentscope.models.s4d import S4D as S4D
from tangentscope.models.solvable.diagonal_linear import DiagonalLinear as DiagonalLinear
from tangentscope.models.solvable.linear import Linear as Linear
from tangentscope.models.solvable.linear_net import LinearNet as LinearNet
from tangentscope.models.solvable.multilinear import Multilinear as Multilinear
from tangentscope.models.solvable.scalar_net import ScalarNet as ScalarNet
from tangentscope.models.solvable.skill_bases import SkillBases as SkillBases
from tangentscope.models.transformer import Transformer as Transformer
from tangentscope.models.vae import VAE as VAE
from tangentscope.models.vgg16 import VGG16 as VGG16
from tangentscope.models.vit import ViT as ViT

MODELS: dict[str, type[Model]] = models_among(globals())
