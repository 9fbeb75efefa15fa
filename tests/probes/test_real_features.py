"""The last linear layer of networks that people use is found, under the name that their code gives it."""

import pytest
import torch
from real_models import MODELS

from tangentscope import probes

pytestmark = pytest.mark.models

REFUSED = {
    "levit": "come of 2 layers, joined by add",  # averages two heads, of different features
    "schnet": "come of scatter_add",  # adds up outputs of all nodes
}

HEADS = ("head", "fc", "classifier", "lm_head", "wte", "embeddings", "11")  # tied ones are named for the table


@pytest.mark.parametrize("name", [name for name in MODELS if name not in REFUSED])
def test_the_head_is_found(name: str):
    model, inputs = MODELS[name].make(3)
    features = probes.feature_map(model)(inputs)
    assert any(head in features.layer for head in HEADS)
    made = features.values.double() @ features.weight.T + features.bias
    torch.testing.assert_close(made, features.outputs.double(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_networks_without_one_are_refused(name: str):
    model, inputs = MODELS[name].make(3)
    with pytest.raises(ValueError, match=REFUSED[name]):
        probes.feature_map(model)(inputs)
