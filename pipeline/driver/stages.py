"""States of games at several stages of a run's training (CV §4.2), played by the networks that its snapshots hold."""

import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from tangentscope.pipeline.store import layout
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.study.runs import Run
from tangentscope.pipeline.system.errors import UserError
from tangentscope.tasks import DataError, Game, Split

_RUNNING = 20  # iterations over which returns are averaged


def stage_steps(store: Store, run: Run, given: Sequence[int] = ()) -> list[int]:
    """The kept snapshots that play: those `given`, else the first, one that sometimes wins, and the last.

    The second is the first whose running mean of returns is halfway between that at the start and the best.

    Raises:
        UserError: A step without a kept snapshot; returns that have not risen.
    """
    kept = [name.step for name in store.kept(run.id)]
    if not kept:
        raise UserError(f"run {run.name}: no snapshot of it is kept; run the study first, with probes.keep: all")
    if given:
        if lost := sorted(set(given) - set(kept)):
            raise UserError(
                f"run {run.name}: no snapshot of step {lost[0]} is kept; the last one is of step {kept[-1]}"
            )
        return sorted(set(given))
    rows = store.history()
    rows = rows.loc[(rows["run"] == run.id) & (rows["split"] == "train") & (rows["variable"] == "return")]
    means = np.array(rows["value"].rolling(_RUNNING, min_periods=1).mean(), float)
    start = means[min(_RUNNING, len(means)) - 1] if len(means) else np.nan
    if not len(means) or not means.max() > start:
        raise UserError(f"run {run.name}: its returns have not risen yet, so no stage wins sometimes; give --stages")
    halfway = int(rows["step"].to_numpy()[np.argmax(means >= (start + means.max()) / 2)])
    return sorted({kept[0], min(kept, key=lambda step: abs(step - halfway)), kept[-1]})


def stages_of(store: Store, run: Run, steps: Sequence[int], states: int, games: int) -> tuple[str, Callable[[], Split]]:
    """A fingerprint of the states of these stages, without playing, and what plays for them.

    Args:
        store: The study's.
        run: Of a game.
        steps: Of kept snapshots.
        states: In all, as many of each stage.
        games: That are played at each stage.
    """
    assert isinstance(run.task, Game)
    kept = {name.step: name for name in store.kept(run.id)}
    about = {"game": run.task.model_dump(mode="json"), "version": run.task.version, "states": states, "games": games}
    about |= {"networks": [f"{step}-{kept[step].checksum}" for step in steps], "run": run.id}
    fingerprint = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]

    def played() -> Split:
        assert isinstance(run.task, Game)
        networks = [_actor(store, run, kept[step]) for step in steps]
        try:
            return run.task.staged(networks, states // len(steps), games)
        except DataError as error:
            raise UserError(f"run {run.name}: {error}; see --games and --states") from None

    return fingerprint, played


def _actor(store: Store, run: Run, name: layout.SnapshotName) -> Callable[[Tensor], Tensor]:
    network = store.network(run.planned())
    network.load_state_dict(store.parameters(run.id, name))
    return lambda seen: network(seen)[:, run.task.parts()["actor"]]
