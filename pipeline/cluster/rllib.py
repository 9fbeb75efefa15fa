"""RLlib around a network of ours: its new API stack plays, and learns by PPO; all that is learned is in the network.

Loaded only where games are played: RLlib takes seconds to load.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import ray.util
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.tune.registry import register_env
from torch import Tensor, nn

from pipeline.course import Reinforcement
from pipeline.learning import Training, mix, network_of
from tasks import Game, TaskData

_RETURNS = "returns_of_games"
_Found = TypeVar("_Found")


class _Network(TorchRLModule, ValueFunctionAPI):
    """A run's network as RLlib wants it: logits are all outputs but the last, the value is the last."""

    def setup(self) -> None:
        what: Training = self.model_config["what"]
        self.network = network_of(what, self.model_config["input_shape"], self.model_config["outputs"], {})
        self._seen = what.task.seen  # pyright: ignore[reportAttributeAccessIssue]  only games are played

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        outputs = self.network(self._seen(batch[Columns.OBS]))
        # The values are kept for the loss, which would compute them again.
        return {Columns.ACTION_DIST_INPUTS: outputs[:, :-1], Columns.EMBEDDINGS: outputs[:, -1]}

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            return {Columns.ACTION_DIST_INPUTS: self._forward(batch)[Columns.ACTION_DIST_INPUTS]}

    _forward_inference = _forward_exploration

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        return self._forward(batch)[Columns.EMBEDDINGS] if embeddings is None else embeddings


class _Learner(PPOTorchLearner):
    """PPO with the run's own optimiser."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        module: Any = self._module[module_id]  # pyright: ignore  RLlib's types leave it open
        what: Training = module.unwrapped().model_config["what"]
        parameters: list[Any] = list(self.get_parameters(module))
        optimiser = what.optimiser.build(parameters)
        # Without a schedule of RLlib's: the run's own sets the rate before each iteration.
        self.register_optimizer(module_id=module_id, optimizer=optimiser, params=parameters)


class _Returns(RLlibCallback):
    """Keeps the return of every game: RLlib's own mean is over many iterations."""

    def on_episode_end(
        self, *, episode: Any, prev_episode_chunks: Any = (), metrics_logger: Any = None, **kwargs: Any
    ) -> None:
        # An episode that several iterations saw comes in as many pieces.
        pieces = [*(prev_episode_chunks or ()), episode]
        metrics_logger.log_value(_RETURNS, sum(piece.get_return() for piece in pieces), reduce="item_series")


class Iteration:
    """What came of one iteration: returns of the games that ended in it, actions, and losses by name."""

    def __init__(self, result: dict[str, Any]) -> None:
        played = result.get("env_runners", {})
        self.returns = np.atleast_1d(played.get(_RETURNS, ())).tolist()  # RLlib gives a single one as a number
        actions = float(played.get("num_env_steps_sampled", 0.0))
        self.actions = 0 if np.isnan(actions) else int(actions)  # no number while those that play are being replaced
        learned = result.get("learners", {}).get(DEFAULT_MODULE_ID, {})
        names = {"policy_loss": "policy_loss", "vf_loss": "value_loss", "entropy": "policy_entropy"}
        self.losses = {ours: float(learned[theirs]) for theirs, ours in names.items() if theirs in learned}


class Player:
    """RLlib's algorithm for one run. `network` and `optimiser` are those that learn, changed in place."""

    def __init__(self, algorithm: Algorithm, what: Training) -> None:
        self._algorithm, self._what = algorithm, what
        self.network: nn.Module = self._of_learner(
            lambda learner: learner.module[DEFAULT_MODULE_ID].unwrapped().network
        )
        self.optimiser: torch.optim.Optimizer = self._of_learner(
            lambda learner: learner.get_optimizer(DEFAULT_MODULE_ID)
        )

    def resume(self, state: dict[str, Any]) -> None:
        """Take up parameters and the optimiser's state where a checkpoint left them."""
        self.network.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        runners = self._algorithm.env_runner_group
        if runners is not None:
            runners.sync_weights(from_worker_or_learner_group=self._algorithm.learner_group, inference_only=True)

    def iterate(self, step: int) -> Iteration:
        """Play and learn once more, after `step` iterations."""
        what = self._what
        rate = what.optimiser.lr * what.optimiser.schedule.scale(step, what.epoch_steps, what.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return Iteration(self._algorithm.train())

    def _of_learner(self, get: Callable[[Any], _Found]) -> _Found:
        group: Any = self._algorithm.learner_group
        return next(iter(group.foreach_learner(get))).get()


@contextmanager
def player(what: Training, data: TaskData, device: torch.device, runners: int, step: int) -> Iterator[Player]:
    """RLlib ready to play: in this process, or with as many `runners` beside it that play while it learns.

    Args:
        what: A run of a game.
        data: Its data, for their shapes.
        device: Where it learns.
        runners: Processes that play.
        step: Iterations made: games go on with others than those of the start.
    """
    # A training worker stands in a placement group that has no room for others. RLlib would put those that play there
    # all the same; out of its sight they get CPUs of their own.
    with patch.object(ray.util, "get_current_placement_group", lambda: None):
        algorithm = _config(what, data, device, runners, step).build_algo()
    try:
        yield Player(algorithm, what)
    finally:
        algorithm.stop()
        # An empty folder in the user's home: what RLlib would log is on storage.
        shutil.rmtree(str(algorithm.logdir), ignore_errors=True)


def _config(what: Training, data: TaskData, device: torch.device, runners: int, step: int) -> PPOConfig:
    course, game = what.course, what.task
    assert isinstance(course, Reinforcement)
    assert isinstance(game, Game)
    name = f"tangentscope-{hashlib.sha256(game.model_dump_json().encode()).hexdigest()[:12]}"
    register_env(name, lambda context: game.environment())
    model = {"what": what, "input_shape": data.input_shape, "outputs": data.outputs}
    return (
        PPOConfig()
        .environment(name)
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=-(-course.environments // max(1, runners)))
        .fault_tolerance(restart_failed_env_runners=True)
        .learners(learner_class=_Learner, num_learners=0, num_gpus_per_learner=int(device.type == "cuda"))
        .rl_module(rl_module_spec=RLModuleSpec(module_class=_Network, model_config=model))
        .callbacks(_Returns)
        .debugging(seed=mix(what.seed, step, "play") % 2**31, log_level="ERROR")
        .training(
            lr=what.optimiser.lr,
            train_batch_size_per_learner=course.batch_size,
            minibatch_size=course.minibatch_size,
            num_epochs=course.passes,
            gamma=course.discount,
            lambda_=course.trace_decay,
            clip_param=course.clip,
            vf_clip_param=float("inf"),
            vf_loss_coeff=course.value_weight,
            entropy_coeff=course.entropy_bonus,
            # The clipped ratio alone holds steps back, as in the paper's experiments: no state beside the network.
            use_kl_loss=False,
            kl_coeff=0.0,
            grad_clip=course.gradient_clip,
            grad_clip_by="global_norm",
        )
    )
