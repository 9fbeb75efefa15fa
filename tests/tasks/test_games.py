"""Games: the rules of our own, the frames of ALE's, states that are gathered, and what is refused."""

from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
import pytest
import torch
from ale_py.env import AtariEnv
from gymnasium.utils.env_checker import check_env
from pydantic import ValidationError
from torch import Tensor

from tangentscope.tasks import TASKS, Atari, CartPole, Catch, DataError, Game
from tangentscope.tasks.games import greedy, play

PONG = {"game": "pong", "rows": (34, 194), "games": 1, "states": 40}
GAMES: dict[str, Game] = {
    "catch": Catch(states=60),
    "cartpole": CartPole(states=60, games=10),
    "atari": Atari(**PONG),
}


def test_every_game_is_here():
    assert {name for name, task in TASKS.items() if issubclass(task, Game)} == set(GAMES)


@pytest.mark.parametrize("name", GAMES)
def test_environments_keep_to_gymnasiums_interface(name: str):
    check_env(GAMES[name].environment(), skip_render_check=True)


@pytest.mark.parametrize("name", GAMES)
def test_states_are_different_ones_and_the_same_at_every_call(name: str):
    game = GAMES[name]
    data = game.load()
    states = torch.cat([data.train.inputs, data.test.inputs])
    assert states.shape == (2 * game.states, *data.input_shape)
    assert states.dtype == torch.float32
    assert len(torch.unique(data.train.inputs, dim=0)) == game.states
    assert not torch.equal(data.train.inputs, data.test.inputs)
    assert data.outputs == game.environment().action_space.n + 1
    assert f"play_seed {game.play_seed}" in data.source


def test_the_seed_says_which_games():
    assert Catch().load().fingerprint == Catch().load().fingerprint
    assert Catch(play_seed=1).load().fingerprint != Catch().load().fingerprint


def catching(seen: Tensor) -> Tensor:
    """What to do in Catch: go below the ball."""
    ball, paddle = seen[:, 0, :-4].amax(1), seen[:, 0, -1]
    places = torch.arange(40.0)
    way = (ball * places).sum(1) / ball.sum(1) - (paddle * places).sum(1) / paddle.sum(1)
    return 1 + torch.sign(way).long() * (way.abs() > 2)


def test_every_stage_has_games_of_its_own():
    game = CartPole(states=10, games=2)
    split = game.staged([lambda seen: torch.zeros(len(seen), 2)] * 2, 20, 2)
    first, second = split.inputs.split(20)
    assert not {tuple(state) for state in first.tolist()} & {tuple(state) for state in second.tolist()}


def test_who_goes_below_the_ball_catches_all_and_who_stays_few():
    best = Catch().evaluate(catching, 30)
    assert set(best.returns) == {5.0}
    assert set(best.lengths) == {5 * 9}
    stayed = Catch().evaluate(lambda seen: torch.ones(len(seen), dtype=torch.long), 200)
    # Two of ten columns are caught: 5 · (0.2 − 0.8) = −3 on average, ± 0.13.
    assert np.mean(stayed.returns) == pytest.approx(-3, abs=0.5)


def test_games_that_are_played_side_by_side_are_those_played_alone():
    together = play(Catch(), catching, 3, (7,))
    one = play(Catch(), catching, 1, (7,))
    assert together.returns[0] == one.returns[0]
    assert np.array_equal(together.states[:45], one.states)
    assert not np.array_equal(together.states[45:90], one.states)


def test_the_greedy_policy_takes_the_likeliest_action():
    policy = greedy(lambda seen: torch.stack([seen, 1 - seen], 1))
    assert policy(torch.tensor([0.2, 0.9])).tolist() == [1, 0]


def test_frames_are_ales_grey_ones_pooled_and_the_last_four():
    task = Atari(**{**PONG, "sticky": 0.0, "idle": 0})
    screen = AtariEnv("pong", obs_type="grayscale", frameskip=4, repeat_action_probability=0.0)
    expected = [pooled(screen.reset(seed=3)[0])] * 4
    ours = task.environment()
    assert np.array_equal(ours.reset(seed=3)[0], expected)
    for action in [2, 2, 3, 0, 5, 1]:
        expected = [*expected[1:], pooled(screen.step(action)[0])]
        assert np.array_equal(ours.step(action)[0], expected)


def pooled(frame: np.ndarray) -> np.ndarray:
    return np.floor(frame[34:194].reshape(40, 4, 40, 4).mean((1, 3))).astype(np.uint8)


def test_games_begin_after_a_random_wait():
    starts = {Atari(**PONG).environment().reset(seed=seed)[0].tobytes() for seed in range(5)}
    assert len(starts) > 1


def test_a_game_that_is_unknown_gets_its_nearest_names():
    with pytest.raises(ValidationError, match=r"unknown game; the nearest of \d+ are pong"):
        Atari(game="pogn")


def test_a_game_without_its_rom_says_so(monkeypatch: pytest.MonkeyPatch):
    def absent(self: Any, *args: Any, **fields: Any) -> None:
        raise FileNotFoundError('ROM "pong"\nnot found')

    monkeypatch.setattr(AtariEnv, "__init__", absent)
    with pytest.raises(
        DataError, match=r'no ROM of pong here \(ROM "pong" not found\): install ale-py again'
    ) as caught:
        Atari(**PONG).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rows", [(0, 211), (8, 8), (0, 30)])
def test_rows_of_the_screen_are_checked(rows: tuple[int, int]):
    with pytest.raises(ValidationError, match="apart by a multiple of 4"):
        Atari(game="pong", rows=rows)


def test_more_states_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"catch: got \d+ different states in 1 games, expected 500: raise task.games"):
        Catch(games=1).load()


class Pushed(Game, frozen=True):
    name: Literal["pushed"] = "pushed"
    version: ClassVar[int] = 1

    def environment(self) -> gymnasium.Env[Any, Any]:
        return gymnasium.make("Pendulum-v1")


def test_actions_that_are_numbers_are_refused():
    with pytest.raises(DataError, match=r"pushed: got the action space Box.*, expected Discrete: choose another game"):
        Pushed().load()


@pytest.mark.parametrize("kind", ["loss", "score"])
def test_a_game_has_no_loss_of_a_state(kind: str):
    with pytest.raises(TypeError, match="catch is learned by playing"):
        getattr(Catch(), kind)(torch.zeros(2, 4), torch.zeros(2))


def test_parts_of_the_outputs():
    outputs = torch.arange(4.0).expand(2, 4)
    found = {name: outputs[:, part][0].tolist() for name, part in Catch().parts().items()}
    assert found == {"actor": [0, 1, 2], "critic": [3], "both": [0, 1, 2, 3]}
