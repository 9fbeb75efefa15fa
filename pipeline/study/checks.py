"""Whether what a study asks for can be had of its task: one line for what cannot."""

from tangentscope.pipeline.config.resources import TrainPool
from tangentscope.pipeline.config.train import Course, Reinforcement
from tangentscope.pipeline.study.spec import Probes, Study
from tangentscope.pipeline.system.errors import UserError, nearest
from tangentscope.probes import givens_of
from tangentscope.probes.variables import check_treatment
from tangentscope.tasks import Game, Task, TaskData

_MOST_STEPS = 10**9
_MOST_RECORDS = 10**6  # of one kind, of one run
_OF_CLASSES = {"classes"}
_OF_ALL_OUTPUTS = {"labels", "residual", "output_hessian"}  # what a target says of them


def check_study(study: Study, task: Task, course: Course, data: TaskData, source: str) -> None:
    """Raise UserError where workers, points, parts of outputs, classes or a loss are asked for that a task does not
    have."""
    probes, pool = study.probes, study.resources.train
    if isinstance(course, Reinforcement):
        _check_playing(pool, course, task, source)
    else:
        for name in ("env_runners", "learners"):
            if count := getattr(pool, name):
                raise UserError(
                    f"{source}: resources.train.{name}: got {count}, but {task.name} is no game; leave it out and give "
                    "resources.train.workers"
                )
    _check_length(probes, course, len(data.train), source)
    _check_points(probes, task, data, source)
    for part in probes.parts:
        if part not in (known := task.parts()):
            told = nearest(part, known) if known else f"{task.name} has none: leave them out"
            raise UserError(f'{source}: probes.parts: "{part}" unknown; {told}')
    place = f"{source}: probes.variables"
    counts = [len(range(data.outputs)[task.parts()[part]]) for part in probes.parts] or [data.outputs]
    try:
        # With one output per point all treatments are the same.
        check_treatment(probes.variables, probes.kernel.outputs if max(counts) > 1 else "full")
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None
    targets, game = data.train.targets, isinstance(task, Game)
    for name in probes.variables:
        needs = givens_of(name)
        if needs & _OF_CLASSES and (targets.is_floating_point() or targets.dim() != 1 or game):
            raise UserError(
                f"{place}: {name} needs a class for each point, which {task.name} does not have; leave it out"
            )
        if needs & _OF_ALL_OUTPUTS and (probes.parts or not task.targets_observed):
            whose = "parts of outputs have" if probes.parts else f"{task.name}'s kernels have"
            raise UserError(f"{place}: {name} needs a target for each point, which {whose} none of; leave it out")


def _check_length(probes: Probes, course: Course, points: int, source: str) -> None:
    """Refuse a training whose steps or records are beyond what storage can list, before anything lists them."""
    epoch_steps, steps = course.epoch_steps(points), course.length(points)
    if steps > _MOST_STEPS:
        raise UserError(f"{source}: train: got {steps:.3g} steps, expected {_MOST_STEPS:,} at most; train for less")
    rows = {"train.evaluate_every": steps / max(1, course.evaluation_steps(points))}
    rows |= {"probes.schedule": probes.schedule.most(steps, epoch_steps)}
    rows |= {"probes.snapshots": probes.snapshots.most(steps, epoch_steps)} if probes.snapshots else {}
    for place, count in rows.items():
        if count > _MOST_RECORDS:
            problem = f"got {count:.3g} times of {steps:,} steps, expected {_MOST_RECORDS:,} at most"
            raise UserError(f"{source}: {place}: {problem}; give fewer")


def _check_playing(pool: TrainPool, course: Reinforcement, task: Task, source: str) -> None:
    if pool.workers > 1:
        raise UserError(
            f"{source}: resources.train.workers: got {pool.workers}, but one worker learns to play {task.name}; leave "
            "it at 1 and give resources.train.learners and env_runners"
        )
    for name in ("batch_size", "minibatch_size"):
        if pool.learners and getattr(course, name) % pool.learners:
            raise UserError(
                f"{source}: resources.train.learners: got {pool.learners}, but train.{name} is "
                f"{getattr(course, name)}; give a number that divides it"
            )


def _check_points(probes: Probes, task: Task, data: TaskData, source: str) -> None:
    draws, size, game = probes.kernel.draws, probes.kernel.size, isinstance(task, Game)
    for split in probes.splits if probes.variables else ():
        there = len(getattr(data, split))
        if size > there:
            raise UserError(
                f"{source}: probes.kernel.size: got {size} points in a draw, but the {split} split of "
                f"{task.name} has {there}; lower the size or raise task.{'states' if game else split + '_size'}"
            )
        if game and draws * size > there:
            raise UserError(
                f"{source}: probes.kernel: got {draws} draws of {size} states, but {there} are stored for {split}; "
                "raise task.states, or lower draws or size"
            )
