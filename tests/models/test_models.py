import pytest
import torch
from pydantic import ValidationError

from models import MODELS, Model

REQUIRED = {"mlp": {"width": 8}}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param](name=request.param, **REQUIRED[request.param])


def test_a_model_is_known_by_the_name_of_its_line_in_the_table(model: Model):
    assert MODELS[model.name] is type(model)
    assert isinstance(model.version, int)
    with pytest.raises(ValidationError, match="name"):
        type(model)(**{**model.model_dump(), "name": "another"})


def test_a_model_cannot_be_changed(model: Model):
    with pytest.raises(ValidationError, match="frozen"):
        model.name = "another"


def test_a_model_maps_points_to_outputs_and_depends_on_its_parameters_only(model: Model):
    network = model.build((1, 28, 28), 10)
    x = torch.randn(5, 1, 28, 28)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        outputs = network(x)
        torch.testing.assert_close(network(x[:2]), outputs[:2])
    assert outputs.shape == (5, 10)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_global_seed_fixes_every_parameter(model: Model):
    def parameters(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in model.build((3, 4), 2).parameters()])

    assert torch.equal(parameters(0), parameters(0))
    assert not torch.equal(parameters(0), parameters(1))
