"""Whether features can be measured, or be left as they are, as a study asks: one line for what cannot."""

import torch
from torch import nn

from tangentscope.models import Model
from tangentscope.pipeline.config.features import FeaturePoints
from tangentscope.pipeline.config.train import Course, Train
from tangentscope.pipeline.probing.points import drawn_for_features
from tangentscope.pipeline.study.trial import trial_network
from tangentscope.pipeline.system.errors import UserError
from tangentscope.probes import FEATURE_VARIABLES, feature_map, feature_metrics
from tangentscope.probes.feature_metrics import WHOLE
from tangentscope.probes.variables.features import FEATURE_NEEDS
from tangentscope.probes.variables.resolve import chain
from tangentscope.tasks import Game, Task, TaskData

_TRIAL = 2  # points by which a network's last layer is found
_SHOWN = 5  # classes in a message
_REFUSALS = (ValueError, TypeError, RuntimeError)  # of networks and inputs


def check_features(points: FeaturePoints | None, task: Task, model: Model, data: TaskData, source: str) -> None:
    """Raise UserError where points, classes or a last linear layer are wanting for the features of a study."""
    place = f"{source}: probes.features"
    if points is None:
        return
    if isinstance(task, Game):
        raise UserError(f"{place}: {task.name} is a game, whose states have no targets; leave features out")
    for split, size in (("train", points.train), ("test", points.test)):
        there = len(getattr(data, split))
        if size > there:
            raise UserError(
                f"{place}.{split}: got {size:,} points, but the {split} split of {task.name} has {there:,}; lower it "
                f"or raise task.{split}_size"
            )
    _check_classes(points, task, data, place)
    p = _features_of(points, task, model, data, place)
    cut = _cut_off(points)
    for split, size in (("train", points.train), ("test", points.test)):
        if size < p and cut[split]:
            raise UserError(
                f"{place}.{split}: got {size:,} points for the {p:,} features of {model.name}, which cuts off "
                f"{', '.join(cut[split])} after the first {size:,}; give {p:,} at least, or leave these variables out"
            )


def _needs(name: str) -> frozenset[str]:
    return frozenset(chain(FEATURE_VARIABLES[name].needs, (), FEATURE_NEEDS))


def _check_classes(points: FeaturePoints, task: Task, data: TaskData, place: str) -> None:
    """Refuse variables of classes where there are none, and splits whose points lack one."""
    classes = not data.train.targets.is_floating_point() and data.train.targets.dim() == 1 and data.outputs > 1
    for split, size, given in (("train", points.train, "train_classes"), ("test", points.test, "test_targets")):
        asking = [name for name in points.variables if given in _needs(name)]
        if asking and not classes and given == "train_classes":
            raise UserError(
                f"{place}.variables: {asking[0]} needs a class for each point, which {task.name} does not have; leave "
                "it out"
            )
        if not asking or not classes:
            continue
        whole = getattr(data, split)
        drawn = whole.targets[drawn_for_features(whole, size, points.seed)]
        absent = sorted({*range(data.outputs)} - {*drawn.tolist()})
        if absent:
            shown = ", ".join(map(str, absent[:_SHOWN])) + (", …" if len(absent) > _SHOWN else "")
            raise UserError(
                f"{place}.{split}: of the {size:,} points none is of class {shown} (of {data.outputs}), which "
                f"{asking[0]} needs; raise it, or give another probes.features.seed"
            )


def _features_of(points: FeaturePoints, task: Task, model: Model, data: TaskData, place: str) -> int:
    """How many features a network has; it is built, and measured on a few points."""
    network = task.observed(_network(model, data))
    few = torch.arange(_TRIAL)
    (inputs, targets), held_out = data.train.batch(few), data.test.batch(few)
    try:
        found = feature_map(network)(inputs)
        feature_metrics(network, (inputs, targets), held_out, points.variables)
    except _REFUSALS as error:
        told = " ".join(str(error).split())
        raise UserError(f"{place}: model {model.name} on {task.name}: {told}; or leave features out") from None
    return found.values.shape[1]


def check_trainable(course: Course, model: Model, data: TaskData, source: str) -> None:
    """Raise UserError where the last layer alone is to be trained, and a network's features would change all the same.

    Or where there is no such layer.
    """
    if not isinstance(course, Train) or course.trainable == "all":
        return
    place, network = f"{source}: train.trainable: last", _network(model, data)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"{place}: {model.name} normalises by batches, whose statistics change its features; leave "
                f"{type(module).__name__} out of the model, or train all layers"
            )
    try:
        feature_map(network)(data.train.batch(torch.arange(_TRIAL))[0])
    except _REFUSALS as error:
        raise UserError(f"{place}: model {model.name}: {' '.join(str(error).split())}; or train all layers") from None


def _network(model: Model, data: TaskData) -> nn.Module:
    network = trial_network(model, data)
    for part in network.modules():  # not by eval(), in which layers may merge their weights
        part.training = False
    return network


def _cut_off(points: FeaturePoints) -> dict[str, list[str]]:
    """By split, the variables that know only as many features as it has points, should there be fewer."""
    needs = {name: _needs(name) for name in points.variables}
    spaces = {"target_space", "learned_space"}
    return {
        "train": [name for name, own in needs.items() if "feature_spectrum" in own and name not in WHOLE],
        "test": [name for name, own in needs.items() if spaces & own and "eigenfunctions" in own],
    }
