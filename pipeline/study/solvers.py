"""Whether a study's solver can do what is asked of it: one line for what it cannot."""

import torch
from torch import nn

from tangentscope.models import Model, ModelError
from tangentscope.models.solvable.base import Solvable
from tangentscope.pipeline.config.optimisers import Descent, Optimiser
from tangentscope.pipeline.config.resources import TrainPool
from tangentscope.pipeline.config.solvers import Flow, LeastNorm, Solution
from tangentscope.pipeline.config.train import Course, Train
from tangentscope.pipeline.study.trial import trial_network
from tangentscope.pipeline.system.errors import UserError
from tangentscope.pipeline.training.solved import everything, is_linear, least_squares
from tangentscope.tasks import Task, TaskData
from tangentscope.tasks.moments import HasMoments

_POINTS = 8  # by which a network or a loss is told to be what a solver is for
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def check_solver(
    task: Task, model: Model, optimiser: Optimiser, course: Course, data: TaskData, pool: TrainPool, source: str
) -> None:
    """Raise UserError where a solver is asked for what it does not solve; a descent is not looked at."""
    if isinstance(optimiser, Descent):
        return
    place = f"{source}: optimiser {optimiser.name}"
    if not isinstance(course, Train):
        raise UserError(f"{place}: {task.name} is a game, which is learned by descent; take sgd, adam or adamw")
    if course.batch(len(data.train)) < len(data.train):
        raise UserError(f"{place}: sees all points at once, got train.batch_size {course.batch_size}; set it to full")
    if course.precision != "float32":
        raise UserError(f"{place}: solves in float64, got train.precision {course.precision}; leave it out")
    if course.trainable != "all":
        raise UserError(f"{place}: solves for all parameters, got train.trainable {course.trainable}; leave it out")
    if pool.workers > 1:
        raise UserError(f"{place}: is solved by one worker, got resources.train.workers {pool.workers}; set it to 1")
    if isinstance(optimiser, Flow):
        problem = _of_flow(task, model, data)
    elif isinstance(optimiser, LeastNorm):
        problem = _of_least_norm(task, model, course, data)
    else:
        problem = _of_solution(optimiser, task, model, data)
    if problem:
        raise UserError(f"{place}: {problem}")


def _of_flow(task: Task, model: Model, data: TaskData) -> str | None:
    one = data.train.batch(torch.arange(1))[0]
    if task.augmented(one) is not one:
        return f"follows the mean loss of the same points, but {task.name} draws them anew; take sgd"
    with torch.device("meta"):
        network = trial_network(model, data)
    for module in network.modules():
        if isinstance(module, _BATCH_NORMS) or (isinstance(module, _DROPOUTS) and module.p > 0):
            kind = type(module).__name__
            return f"needs a network without randomness or batches' statistics, but {model.name} has {kind}; take sgd"
    return None


def _of_least_norm(task: Task, model: Model, course: Train, data: TaskData) -> str | None:
    if (steps := course.steps(len(data.train))) != 1:
        return f"takes one step, got {steps:,}; set train.epochs to 1"
    inputs, targets = everything(data.train.take(torch.arange(min(_POINTS, len(data.train)))), torch.float64)
    if not is_linear(trial_network(model, data), inputs):
        return f"needs a network that is linear in its parameters, which {model.name} is not; take linear, or flow"
    try:
        least_squares(task, torch.zeros(len(targets), data.outputs, dtype=torch.float64), targets)
    except (ValueError, RuntimeError):
        return f"minimises a squared error, which {task.name}'s loss is not; take another task, or sgd"
    return None


def _of_solution(solution: Solution, task: Task, model: Model, data: TaskData) -> str | None:
    if not isinstance(model, Solvable):
        return f"needs a model with a closed form, which {model.name} has not; take flow"
    if not isinstance(task, HasMoments) or not task.exact_moments:
        return f"needs data of exact second moments, which {task.name} does not have; take skills, or flow"
    try:
        model.solved(trial_network(model, data), solution.lr, task.target(), task.moments())
    except (ModelError, ValueError) as error:
        return str(error)
    return None
