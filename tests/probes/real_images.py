"""Image networks of timm, torchvision and torch, small enough for a processor, each with ten outputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

OUTPUTS = 10


def of_timm(name: str, **changed: Any) -> Callable[[], nn.Module]:
    """timm's network of this name; ``changed`` are timm's own arguments, to make it smaller."""

    def build() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=OUTPUTS, **changed)

    return build


def of_torchvision(name: str, **changed: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        return getattr(torchvision.models, name)(num_classes=OUTPUTS, **changed)

    return build


def mixer() -> nn.Module:
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(OUTPUTS, img_size=32, patch_size=8, num_blocks=4, embed_dim=96)


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, num_layers=4, num_heads=4, hidden_dim=96, mlp_dim=384, num_classes=OUTPUTS)


def spectral_normed() -> nn.Module:
    """The discriminator of SN-GAN (Miyato et al. 2018), narrow, with ten outputs."""
    layers: list[nn.Module] = []
    for d_in, d_out, stride in ((3, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)):
        conv = nn.Conv2d(d_in, d_out, 4 if stride == 2 else 3, stride, 1)
        layers += [parametrizations.spectral_norm(conv), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Flatten(), parametrizations.spectral_norm(nn.Linear(64 * 4 * 4, OUTPUTS)))


class GatedBlock(nn.Module):
    """A dilated convolution whose halves are a filter and its gate."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
        self.dilated = parametrizations.weight_norm(nn.Conv1d(width, 2 * width, 3, dilation=dilation))
        self.mixed = parametrizations.weight_norm(nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        filtered, gate = self.dilated(self.pad(x)).chunk(2, 1)
        return x + self.mixed(filtered.tanh() * gate.sigmoid())


class TemporalConvolutions(nn.Module):
    """[N, 3, T] → [N, 10]: causal convolutions, weight-normed, with gates and skips (van den Oord et al. 2016)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first = parametrizations.weight_norm(nn.Conv1d(3, width, 1))
        self.blocks = nn.Sequential(*(GatedBlock(width, dilation) for dilation in (1, 2, 4, 8)))
        self.head = parametrizations.weight_norm(nn.Linear(width, OUTPUTS))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.first(x))[..., -1])


def images(side: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randn(n, 3, side, side)


def signals(n: int) -> Tensor:
    return torch.randn(n, 3, 32)


IMAGE_MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "vit": (of_timm("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=4), images(32)),
    "deit3": (of_timm("deit3_small_patch16_224", img_size=32, patch_size=8, depth=4, embed_dim=96, num_heads=4),
        images(32)),  # layer scale
    "convnext": (of_timm("convnext_atto"), images(32)),
    "efficientnet": (of_timm("efficientnet_b0"), images(32)),
    "mobilenetv3": (of_timm("mobilenetv3_small_050"), images(64)),
    "mobilenetv4": (of_timm("mobilenetv4_conv_small"), images(64)),
    "regnety": (of_timm("regnety_002"), images(64)),
    "swin": (of_timm("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=48, depths=(2, 2, 2),
        num_heads=(2, 4, 8)), images(32)),
    "swinv2": (of_timm("swinv2_tiny_window8_256", img_size=32, window_size=4, embed_dim=48, depths=(2, 2, 2),
        num_heads=(2, 4, 8)), images(32)),
    "maxvit": (of_timm("maxvit_rmlp_pico_rw_256", img_size=64, embed_dim=(32, 64), depths=(1, 1), stem_width=16),
        images(64)),
    "levit": (of_timm("levit_128s", img_size=64, embed_dim=(48, 64, 96), num_heads=(3, 4, 6), depth=(2, 2, 2)),
        images(64)),
    "xcit": (of_timm("xcit_nano_12_p8_224", img_size=32, depth=4), images(32)),
    "mixer": (mixer, images(32)),
    "torchvision_vit": (torchvision_vit, images(32)),
    "torchvision_efficientnet": (of_torchvision("efficientnet_b0"), images(32)),
    "torchvision_mobilenet": (of_torchvision("mobilenet_v3_small"), images(64)),
    "spectral_norm": (spectral_normed, images(16)),
    "weight_norm": (TemporalConvolutions, signals),
}  # fmt: skip
