"""Features on a GPU are those on the CPU."""

import pytest
import torch
from torch import nn

from tangentscope import probes

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is here")]


def test_features_and_their_variables_are_those_on_the_cpu():
    network = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 12), nn.ReLU(), nn.Linear(12, 3)).double()
    x, y = torch.randn(300, 6, dtype=torch.float64), torch.arange(300) % 3
    here = probes.feature_metrics(network, (x, y), (x.flip(0), y.flip(0)), learned_points=5)
    kernels = probes.conjugate_kernels(network, x[:20])
    network.cuda()
    there = probes.feature_metrics(network, (x.cuda(), y), (x.flip(0).cuda(), y.flip(0)), learned_points=5)
    for name, value in here.values.items():
        assert there[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
    for name, kernel in probes.conjugate_kernels(network, x[:20].cuda()).items():
        torch.testing.assert_close(kernel.cpu(), kernels[name], rtol=1e-9, atol=1e-9)
