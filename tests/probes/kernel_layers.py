"""A table of single layers, each in a network as small as can be, with the shape of its inputs."""

from collections.abc import Callable

import torch
import torch.nn.utils.prune
from kernel_architectures import depthwise_separable, residual_block, squeeze_excite, transformer_block
from kernel_networks import conv_and_norm, dense_and_norm, frozen, shared_convolution
from torch import nn

SEQUENCES, IMAGES, TOKENS, ROWS = (4, 4, 7), (3, 2, 5, 5), (4, 3, 4), (5, 4)

# Single layers: a name, the layer, the shape of its inputs.
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear on tokens": (lambda: nn.Linear(4, 5), TOKENS),
    "linear on tokens, no bias": (lambda: nn.Linear(4, 5, bias=False), TOKENS),
    "linear on tokens, frozen weight": (lambda: frozen(nn.Linear(4, 5), "weight"), TOKENS),
    "linear on a grid": (lambda: nn.Linear(4, 3), (3, 2, 3, 4)),
    "linear on one token": (lambda: nn.Linear(4, 3), (4, 1, 4)),
    "linear, more tokens than width": (lambda: nn.Linear(1, 1), (3, 12, 1)),
    "linear on as many tokens as points": (lambda: nn.Linear(4, 3), (4, 4, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 3, 3), SEQUENCES),
    "conv1d, stride and dilation": (lambda: nn.Conv1d(4, 3, 2, stride=2, dilation=3, padding=1), SEQUENCES),
    "conv1d, same": (lambda: nn.Conv1d(4, 3, 4, padding="same"), SEQUENCES),
    "conv1d, same, circular": (lambda: nn.Conv1d(4, 3, 4, padding="same", padding_mode="circular"), SEQUENCES),
    "conv1d, valid": (lambda: nn.Conv1d(4, 3, 2, padding="valid"), SEQUENCES),
    "conv1d, groups": (lambda: nn.Conv1d(4, 6, 3, groups=2), SEQUENCES),
    "conv1d, replicate": (lambda: nn.Conv1d(4, 3, 3, padding=2, padding_mode="replicate"), SEQUENCES),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1), IMAGES),
    "conv2d, no bias": (lambda: nn.Conv2d(2, 3, 3, bias=False), IMAGES),
    "conv2d, frozen weight": (lambda: frozen(nn.Conv2d(2, 3, 3), "weight"), IMAGES),
    "conv2d, frozen bias": (lambda: frozen(nn.Conv2d(2, 3, 3), "bias"), IMAGES),
    "conv2d, even window": (lambda: nn.Conv2d(2, 3, (2, 4)), IMAGES),
    "conv2d, even window and groups": (lambda: nn.Conv2d(2, 4, (4, 4), groups=2, padding=1), IMAGES),
    "conv2d, even channels": (lambda: nn.Conv2d(2, 16, 3, padding=1), IMAGES),
    "conv2d, stride": (lambda: nn.Conv2d(2, 3, 3, stride=(2, 1), padding=1), IMAGES),
    "conv2d, stride that leaves a border": (lambda: nn.Conv2d(2, 3, 2, stride=2), IMAGES),
    "conv2d, dilation": (lambda: nn.Conv2d(2, 3, (2, 3), dilation=(3, 1)), IMAGES),
    "conv2d, reflect": (lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), IMAGES),
    "conv2d, circular": (lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular", stride=2), IMAGES),
    "conv2d, same": (lambda: nn.Conv2d(2, 3, (2, 3), padding="same", dilation=(1, 2)), IMAGES),
    "conv2d, groups": (lambda: nn.Conv2d(2, 6, 3, groups=2), IMAGES),
    "conv2d, depthwise": (lambda: nn.Conv2d(2, 2, 3, groups=2, padding=1, bias=False), IMAGES),
    "conv2d, 1 by 1": (lambda: nn.Conv2d(2, 4, 1), IMAGES),
    "conv2d, one position": (lambda: nn.Conv2d(2, 3, 5), IMAGES),
    "conv2d, channels last": (lambda: nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last), IMAGES),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2), (2, 1, 3, 3, 3)),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(4, 2, 3, stride=2), (3, 4, 3)),
    "transposed conv2d": (lambda: nn.ConvTranspose2d(2, 3, 3), (3, 2, 3, 3)),
    "transposed conv2d, stride": (lambda: nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, bias=False), (3, 2, 3, 3)),
    "transposed conv2d, output padding": (
        lambda: nn.ConvTranspose2d(2, 2, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=1),
        (3, 2, 2, 3),
    ),
    "transposed conv2d, groups": (lambda: nn.ConvTranspose2d(4, 6, 2, groups=2, stride=2), (3, 4, 2, 2)),
    "transposed conv2d, dilation": (lambda: nn.ConvTranspose2d(2, 3, 2, dilation=(2, 3)), (3, 2, 2, 2)),
    "layer norm": (dense_and_norm(lambda: nn.LayerNorm(6)), ROWS),
    "layer norm on tokens": (dense_and_norm(lambda: nn.LayerNorm(6)), TOKENS),
    "layer norm over two axes": (dense_and_norm(lambda: nn.LayerNorm((3, 6))), (3, 2, 3, 4)),
    "layer norm over all": (conv_and_norm(3, lambda: nn.LayerNorm((3, 3, 3))), IMAGES),
    "layer norm, no bias": (dense_and_norm(lambda: nn.LayerNorm(6, bias=False)), TOKENS),
    "layer norm, frozen weight": (dense_and_norm(lambda: frozen(nn.LayerNorm(6), "weight")), TOKENS),
    "layer norm without parameters": (dense_and_norm(lambda: nn.LayerNorm(6, elementwise_affine=False)), TOKENS),
    "rms norm": (dense_and_norm(lambda: nn.RMSNorm(6)), TOKENS),
    "rms norm over two axes, large eps": (dense_and_norm(lambda: nn.RMSNorm((3, 6), eps=0.1)), TOKENS),
    "group norm": (conv_and_norm(4, lambda: nn.GroupNorm(2, 4)), IMAGES),
    "group norm on rows": (dense_and_norm(lambda: nn.GroupNorm(3, 6, eps=0.1)), ROWS),
    "group norm without parameters": (conv_and_norm(4, lambda: nn.GroupNorm(1, 4, affine=False)), IMAGES),
    "instance norm": (conv_and_norm(3, lambda: nn.InstanceNorm2d(3, affine=True)), IMAGES),
    "batch norm 1d": (dense_and_norm(lambda: nn.BatchNorm1d(6)), ROWS),
    "batch norm 1d on sequences": (lambda: nn.Sequential(nn.Conv1d(4, 3, 3), nn.BatchNorm1d(3)), SEQUENCES),
    "batch norm 2d": (conv_and_norm(3, lambda: nn.BatchNorm2d(3, eps=0.1)), IMAGES),
    "batch norm 2d, frozen bias": (conv_and_norm(3, lambda: frozen(nn.BatchNorm2d(3), "bias")), IMAGES),
    "batch norm without parameters": (conv_and_norm(3, lambda: nn.BatchNorm2d(3, affine=False)), IMAGES),
    "prelu": (lambda: nn.Sequential(nn.Linear(4, 3), nn.PReLU(3)), ROWS),
    "depthwise separable": (depthwise_separable, IMAGES),
    "squeeze and excite": (squeeze_excite, IMAGES),
    "conv used twice": (shared_convolution, IMAGES),
    "residual blocks": (lambda: nn.Sequential(residual_block(2, 3, 2), residual_block(3, 3, 1)), (2, 2, 4, 4)),
    "transformer block": (transformer_block, TOKENS),
}
