from math import cos, pi

import pytest
import torch

from tangentscope.pipeline.config.optimisers import DESCENTS, SGD, Adam, AdamW, RateSchedule


@pytest.mark.parametrize(
    ("schedule", "epoch_steps", "steps", "expected"),
    [
        ({}, 10, 100, {0: 1, 99: 1}),
        ({"warmup": 0.5}, 4, 100, {0: 0.5, 1: 1, 2: 1, 99: 1}),
        ({"name": "cosine"}, 10, 100, {0: 1, 25: 0.5 + 0.5 * cos(pi / 4), 50: 0.5, 100: 0}),
        ({"name": "cosine", "final": 0.1}, 10, 100, {0: 1, 50: 0.55, 100: 0.1, 200: 0.1}),
        # The decay spans what the warm-up leaves: 10 of 110 steps rise, 100 fall.
        ({"name": "cosine", "final": 0.1, "warmup": 1}, 10, 110, {0: 0.1, 4: 0.5, 9: 1, 10: 1, 60: 0.55, 110: 0.1}),
        ({"name": "steps", "every": 2, "factor": 0.2}, 5, 50, {0: 1, 9: 1, 10: 0.2, 19: 0.2, 20: 0.04, 49: 0.2**4}),
        ({"name": "steps", "every": 1, "factor": 0.5, "warmup": 2}, 2, 8, {0: 0.25, 1: 0.5, 2: 0.375, 3: 0.5, 4: 0.25}),
    ],
)
def test_rate_schedules_by_hand(schedule: dict, epoch_steps: int, steps: int, expected: dict[int, float]):
    rate = RateSchedule.model_validate(schedule)
    assert {step: rate.scale(step, epoch_steps, steps) for step in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("config", "cls", "settings"),
    [
        (SGD(lr=0.1), torch.optim.SGD, {"lr": 0.1, "momentum": 0, "nesterov": False, "weight_decay": 0}),
        (
            SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
            torch.optim.SGD,
            {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "dampening": 0},
        ),
        (Adam(lr=1e-3), torch.optim.Adam, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0}),
        (
            Adam(lr=1e-3, beta1=0.5, beta2=0.6, eps=1e-4, weight_decay=0.1),
            torch.optim.Adam,
            {"betas": (0.5, 0.6), "eps": 1e-4, "weight_decay": 0.1},
        ),
        (AdamW(lr=0.1, weight_decay=0.1), torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
    ],
)
def test_the_optimiser_built_is_torchs_with_these_settings(config: SGD | Adam | AdamW, cls: type, settings: dict):
    parameters = [torch.nn.Parameter(torch.ones(3))]
    built = config.build(parameters)
    assert type(built) is cls
    [group] = built.param_groups
    assert group["params"][0] is parameters[0]
    assert {key: group[key] for key in settings} == settings


@pytest.mark.parametrize("name", DESCENTS)
def test_an_optimiser_is_known_by_the_name_of_its_line_in_the_table(name: str):
    config = DESCENTS[name](lr=0.1)
    assert config.name == name
    assert isinstance(config.version, int)
    weight = torch.nn.Parameter(torch.ones(()))
    optimiser = config.build([weight])
    (weight**2).backward()
    optimiser.step()
    assert weight.item() < 1
