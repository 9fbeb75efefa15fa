"""What varied fields and their values are called."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tangentscope.pipeline.config.naming import labels, short

MLP = {"name": "mlp", "width": 32}


@pytest.mark.parametrize(
    ("values", "expected"),
    {
        "one of each name": ([MLP, {"name": "cnn"}, {"name": "vit"}], ["mlp-32", "cnn", "vit"]),
        "alone of its name": ([{"name": "vit", "dim": 8, "depth": 2}, MLP], ["vit", "mlp-32"]),
        "what differs": ([MLP | {"depth": 2}, MLP | {"depth": 3}], ["mlp-2", "mlp-3"]),
        "what one lacks": ([MLP, {"name": "mlp"}], ["mlp-32", "mlp"]),
        "what says nothing alone": ([MLP | {"bias": True}, MLP | {"bias": False}], ["mlp-bias=True", "mlp-bias=False"]),
        "no name": ([{"epochs": 1, "batch_size": 8}, {"epochs": 2, "batch_size": 8}], ["epochs=1", "epochs=2"]),
        "a part of a part": (
            [{"name": "sgd", "schedule": {"name": "cosine", "warmup": 1}}, {"name": "sgd"}],
            ["sgd-schedule=cosine-warmup=1", "sgd"],
        ),
        "a list": ([{"name": "mnist", "classes": [0, 1]}, {"name": "mnist"}], ["mnist-classes=[0,1]", "mnist"]),
        "not clear without names": (
            [{"name": "a", "x": 1, "y": 2}, {"name": "a", "x": "1-2"}],
            ["a-x=1-y=2", "a-x=1-2"],
        ),
        "equal ones": ([{"name": "a", "x": 1, "y": 2}, {"y": 2, "x": 1, "name": "a"}], ["a", "a"]),
        "text and numbers": (
            [{"name": "a", "x": 1}, {"name": "a", "x": "1"}],
            ['{"name": "a", "x": 1}', '{"name": "a", "x": "1"}'],
        ),
        "no mappings": ([1, 2.5, "a", None, [1, 2]], [1, 2.5, "a", None, [1, 2]]),
        "nothing": ([{}], ["default"]),
    }.values(),
)
def test_labels(values: list, expected: list):
    assert labels(values) == expected


PLAIN = st.one_of(st.integers(-3, 3), st.booleans(), st.sampled_from(["a", "b", "1", "a-1"]), st.none())
PARTS = st.dictionaries(st.sampled_from(["name", "width", "depth", "init"]), PLAIN | st.lists(PLAIN, max_size=2))


@given(st.lists(PARTS, max_size=4))
def test_equal_mappings_have_one_label_and_others_have_others(values: list[dict]):
    found = labels(values)
    for one, its in zip(values, found, strict=True):
        for other, theirs in zip(values, found, strict=True):
            same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
            assert (its == theirs) == same, (one, other, found)


@pytest.mark.parametrize(
    ("field", "among", "expected"),
    [
        ("model.width", ["model.width", "optimiser.lr"], "width"),
        ("model.width", ["model.width", "task.width"], "model.width"),
        ("task.name", ["task.name", "model.name"], "task"),
        ("model", ["model", "model.name"], "model"),
        ("optimiser.schedule.name", ["optimiser.schedule.name"], "schedule"),
        ("optimiser", ["optimiser"], "optimiser"),
    ],
)
def test_short(field: str, among: list[str], expected: str):
    assert short(field, among) == expected
