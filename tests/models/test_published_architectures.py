"""Against the implementations of torchvision and torch, parameter by parameter."""

import pytest
import torch
import torchvision
from torch import nn

from tangentscope.models import VGG16, ModelError, ResNet18, ViT


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_resnet18_is_torchvisions_with_the_small_stem():
    theirs = torchvision.models.resnet18(num_classes=7)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    ours = ResNet18().build((3, 32, 32), 7)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 32, 32)
    for mode in (True, False):
        torch.testing.assert_close(ours.train(mode)(x), theirs.train(mode)(x), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in ours.parameters()) == 11_172_423


@pytest.mark.parametrize("batch_norm", [True, False])
def test_vgg16_has_torchvisions_features(batch_norm: bool):
    theirs = (torchvision.models.vgg16_bn if batch_norm else torchvision.models.vgg16)(num_classes=7).features
    ours = VGG16(batch_norm=batch_norm).build((3, 32, 32), 7).eval()
    theirs.eval().load_state_dict(ours.features.state_dict())
    x = torch.randn(2, 3, 32, 32)
    features = theirs(x)
    assert features.shape == (2, 512, 1, 1)
    torch.testing.assert_close(ours(x), ours.classifier(features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "groups"), [(64, [32]), (12, [4, 8, 16, 32]), (4, [2, 4, 8, 16]), (1, [1, 2, 4])])
def test_group_norm_takes_as_many_of_32_groups_as_fit(width: int, groups: list[int]):
    network = ResNet18(width=width, norm="group").build((3, 8, 8), 2)
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert list(dict.fromkeys(norm.num_groups for norm in norms)) == groups
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_without_a_norm_convolutions_have_biases():
    network = ResNet18(width=2, norm="none").build((3, 8, 8), 2)
    owners = [module for module in network.modules() if next(module.parameters(recurse=False), None) is not None]
    assert {type(module) for module in owners} == {nn.Conv2d, nn.Linear}
    assert all(m.bias is not None and not m.bias.any() for m in network.modules() if isinstance(m, nn.Conv2d))


def test_a_block_of_the_vision_transformer_is_torchs_encoder_layer():
    block = ViT(dim=12, depth=1, heads=3).build((3, 8, 8), 2).blocks[0]
    theirs = nn.TransformerEncoderLayer(12, 3, 48, dropout=0, activation="gelu", batch_first=True, norm_first=True)
    attention = block.attention
    parts = (attention.queries, attention.keys, attention.values)
    state = {f"self_attn.in_proj_{kind}": torch.cat([getattr(p, kind) for p in parts]) for kind in ("weight", "bias")}
    pairs = {"self_attn.out_proj": attention.out, "linear1": block.mlp[0], "linear2": block.mlp[2]}
    for name, layer in {**pairs, "norm1": block.norm_1, "norm2": block.norm_2}.items():
        state |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    theirs.load_state_dict(state)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(block(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_the_vision_transformer_reads_patches_with_their_places():
    network = ViT(patch=4, dim=8, depth=1, heads=2).build((3, 8, 8), 2)
    assert network.positions.shape == (5, 8)
    x = torch.randn(1, 3, 8, 8)
    swapped = torch.cat([x[..., 4:], x[..., :4]], -1)  # the same patches at other places
    assert not torch.allclose(network(x), network(swapped))
    with torch.no_grad():
        network.positions.zero_()
    torch.testing.assert_close(network(x), network(swapped))


def test_errors_say_what_to_do():
    with pytest.raises(ModelError, match=r"of 32×32 or more, got 28×28: set task\.pad"):
        VGG16().build((1, 28, 28), 10)
    with pytest.raises(ModelError, match=r"patches of 5×5, got images of 32×32: set model\.patch"):
        ViT(patch=5).build((3, 32, 32), 10)
    with pytest.raises(ValueError, match="heads must divide dim, got dim 10 and heads 4"):
        ViT(dim=10)
