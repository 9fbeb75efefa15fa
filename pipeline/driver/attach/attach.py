"""A training loop of the user's own, watched: its snapshots go to the same probers, tables, report and MLflow.

>>> with tangentscope.attach(model, "results/mine", steps=1000, train=(x, y)) as watch:  # doctest: +SKIP
...     for step, (inputs, targets) in enumerate(batches):
...         watch(step)  # before update number `step`: a copy, where the schedule asks for one
...         train_one_step(model, inputs, targets)
"""

import pickle
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tangentscope.pipeline.config.resources import Resources
from tangentscope.pipeline.driver.attach.attempt import Attempt
from tangentscope.pipeline.driver.attach.notices import Teller
from tangentscope.pipeline.driver.attach.portable import portable
from tangentscope.pipeline.driver.attach.rehearsal import rehearse, same_function, two_points
from tangentscope.pipeline.driver.attach.request import as_text, asked_probes, check_rank, plain_config, whole
from tangentscope.pipeline.driver.attach.trainings import Place, place
from tangentscope.pipeline.driver.attach.value_names import Names
from tangentscope.pipeline.driver.attach.watch import Watch, close_in
from tangentscope.pipeline.probing.given import Given, as_given
from tangentscope.pipeline.probing.networks import Attached, Loss
from tangentscope.pipeline.probing.points import draw_points
from tangentscope.pipeline.store import layout, run_files
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.launch import Launch, claim
from tangentscope.pipeline.store.layout import Notice
from tangentscope.pipeline.store.mending import mend_tables
from tangentscope.pipeline.store.points import keep_points
from tangentscope.pipeline.store.snapshots import frozen_in, plain_state, unwrapped
from tangentscope.pipeline.study.plan import Training, attached_plan
from tangentscope.pipeline.study.spec import Probes, validate
from tangentscope.pipeline.system import provenance
from tangentscope.pipeline.system.errors import UserError, one_line
from tangentscope.pipeline.tracking.uri import check_server, default_uri
from tangentscope.probes import VARIABLES
from tangentscope.probes.network.checks import Chosen
from tangentscope.probes.network.output import Output


@dataclass(frozen=True)
class _Watched:
    """What was asked for, checked."""

    training: Training
    splits: Mapping[str, Given]
    probes: Probes
    pools: Resources
    subject: Attached


def attach(
    model: nn.Module,
    out: str | Path,
    *,
    steps: int,
    train: Any,
    test: Any = None,
    loss: Loss | None = None,
    variables: Sequence[str] = ("trace", "entropy", "effective_rank"),
    schedule: Mapping[str, Any] | None = None,
    kernel: Mapping[str, Any] | None = None,
    output: Output = None,
    parameters: Chosen = None,
    epoch_steps: int | None = None,
    name: str = "attached",
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resources: Mapping[str, Any] | None = None,
    offline: bool = False,
    address: str | None = None,
    quiet: bool = False,
) -> Watch:
    """Watch a training loop: snapshots of `model` are measured in Ray actors beside it while it goes on.

    What does not hold is refused here, after a measurement on two points, which leaves the network as it is. Later
    troubles are told as warnings, and never end the loop. Of several workers that train together, only rank 0
    attaches. A process that is connected to a Ray already, such as a worker of Ray Train, uses that one.

    Leaving the ``with`` block, or `Watch.close`, waits for the last measurements; after an exception for a minute at
    most, then that goes on unchanged. An interrupt (Ctrl-C) is not kept waiting.

    Args:
        model: The network that the loop changes, also wrapped (DDP, compile).
        out: Results: a directory or storage URI. Trainings of other `seed` or `config` may stand there beside it.
        steps: Updates in the whole training.
        train, test: Points that kernels are taken of: inputs [n, ...] and targets [n, ...], or a TensorDataset. Inputs
            are what the network takes: a tensor, an array, a dict or tuple of such, or graphs. Targets may be anything
            where no variable needs them, or None.
        loss: Of outputs and targets, as variables that need it want it; it is called with one point at a time.
        variables, schedule, kernel: As under ``probes`` in a study file.
        output, parameters: Which of what the network returns the kernel is of, and of which parameters; as for
            `probes.tangent_kernel`.
        epoch_steps: Updates in an epoch; given, they make the horizontal axis epochs instead of steps.
        name: Of the study, and of the MLflow experiment.
        seed, config: Of the training, for the record: they tell it from others in `out`, and become parameters in
            MLflow. `config` holds what JSON can hold.
        overwrite: Take the place of what `out` holds of the same seed and config, if that is another training.
        resources: As in a study file.
        offline, address: As for ``tangentscope run``.
        quiet: Say only what goes wrong.

    Raises:
        UserError: Anything that does not hold, before the loop begins.
    """
    check_rank()
    teller = Teller(quiet)
    whole("steps", steps, least=1, of="the number of updates in the whole training")
    whole("seed", seed, least=0, of="the random seed of the training")
    if epoch_steps is not None:
        whole("epoch_steps", epoch_steps, least=1, of="the number of updates in an epoch")
    network = unwrapped(model)
    splits = {
        split: as_given(split, points, network)
        for split, points in (("train", train), ("test", test))
        if points is not None
    }
    probes = asked_probes(splits, variables, schedule, kernel, int(steps), loss is not None)
    pools = validate(Resources, dict(resources or {}), "resources", "attach()")
    further: dict[str, Any] = {"seed": int(seed)} if seed else {}
    written = plain_config(config)
    further |= {"config": written} if written else {}
    further |= {"frozen": frozen} if (frozen := frozen_in(network)) else {}
    further |= {
        key: as_text(value) for key, value in (("output", output), ("parameters", parameters)) if value is not None
    }
    subject = Attached(portable(network), loss, output, parameters, splits["train"].form)
    training = Training(name, network, int(steps), epoch_steps, int(seed), written, further)
    on_gpu = bool(pools.probe.gpu) and torch.cuda.is_available()
    rehearse(subject, splits, probes.kernel, probes.variables, torch.device("cuda" if on_gpu else "cpu"))
    if wrong := same_function(network, subject, two_points(splits["train"])):
        raise UserError(
            f"attach(): {wrong}; attach in the state that is trained (network.train()), if it merges weights"
        )
    watched = _Watched(training, splits, probes, pools, subject)
    storage = Storage.at(out)
    storage.check_writable()
    uri = None if offline else default_uri(storage)
    if uri is not None:
        check_server(uri)
    close_in(storage.uri, teller)
    return _begin(watched, model, storage, uri, address, overwrite, teller)


def _begin(
    watched: _Watched,
    model: nn.Module,
    storage: Storage,
    uri: str | None,
    address: str | None,
    overwrite: bool,
    teller: Teller,
) -> Watch:
    from tangentscope.pipeline.cluster.joining import joined, patient
    from tangentscope.pipeline.cluster.scheduler import Crew  # loads Ray

    training, pools, subject = watched.training, watched.pools, watched.subject
    with ExitStack() as held:
        launch = held.enter_context(claim(storage))
        plan = attached_plan(training, watched.splits, watched.probes, launch.epoch)
        where = place(storage, plan, plain_state(training.module), overwrite)
        was_there = held.enter_context(joined(address, pools, storage))
        _prepare(launch, where, watched, teller)
        room = patient(pools, was_there, teller.say)
        try:
            crew = Crew(launch, pools, uri, room, subject=subject)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            mend = "keep what cannot travel (files, locks, loaders) out of the network, loss= and output="
            raise UserError(
                f"attach(): network or loss cannot travel to probers ({one_line(error)}); {mend}"
            ) from error
        held.callback(crew.leave)
        crew.probers.check()

        def notify(notice: Notice) -> None:
            try:
                crew.hub.notice.remote(notice)
            except Exception as error:  # snapshots are kept, and measured once there is a cluster again
                teller.warn(f"the Ray cluster is gone ({one_line(error)}); snapshots are still kept", "cluster")

        suffixes = where.plan.suffixes
        measured = {f"{name}{suffix}" for name in VARIABLES for suffix in ("", *suffixes.values())}
        points = two_points(watched.splits["train"])

        def check() -> str | None:
            return same_function(model, subject, points)

        attempt = Attempt(launch, where, model, notify, Names(measured, teller), teller, check)
        size, snapshots = f"{where.run.parameters:,} parameters", f"{len(where.run.schedule)} snapshots"
        teller.say(
            f"{type(training.module).__name__} with {size}, {snapshots} up to step {training.steps}; at the end the "
            f"report is {storage.path(layout.REPORT)}"
        )
        return Watch(launch, crew, attempt, where.run, teller, held.pop_all())


def _prepare(launch: Launch, where: Place, watched: _Watched, teller: Teller) -> None:
    storage, run = launch.storage, where.run
    layout.identify(storage)
    for replaced in where.replaced:
        if replaced != run.id:
            run_files.discard(storage, replaced)
    probes = {probe.id: probe for probe in where.plan.probes}
    for probe in (probes[each] for each in run.probes):
        split = watched.splits[probe.split].to("cpu")
        if fault := keep_points(storage, probe, partial(draw_points, split, watched.probes.kernel)):
            teller.warn(f"{fault}; drawn again from the points given")
    for line in mend_tables(launch, where.plan):
        teller.warn(line)
    data = {where.plan.study: run.data.source}
    seeds = sorted({each.seed for each in where.plan.runs})
    script = Path(sys.argv[0] or ".").resolve()
    folder = script.parent if script.is_file() else Path.cwd()
    record = provenance.gather(shlex.join(sys.argv), seeds, data, time.time(), folder)
    record |= {"trainings": {each.name: each.config.get("config", {}) for each in where.plan.runs}}
    storage.write_json(layout.PROVENANCE, record)
    # Running the loop again is the retry: what failed before is measured anew.
    replace(where.plan, retried={**where.plan.retried, run.id: launch.epoch}).write(storage)
    storage.remove(run_files.stop(run.id))
    if not where.kept:
        storage.remove(run_files.outcome(run.id))
