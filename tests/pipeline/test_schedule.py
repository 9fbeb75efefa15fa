import pytest
from hypothesis import given
from hypothesis import strategies as st

from tangentscope.pipeline.config.schedule import Every, Schedule

STEPS = st.integers(1, 100_000)
FORMS = st.one_of(
    st.builds(Schedule, kind=st.just("log"), points=st.integers(2, 300)),
    st.builds(Schedule, every=st.builds(Every, epochs=st.floats(0.01, 50))),
    st.builds(Schedule, every=st.builds(Every, steps=st.integers(1, 1000))),
    st.builds(Schedule, at=st.lists(st.integers(0, 200_000), max_size=20).map(tuple)),
)


@given(FORMS, st.integers(1, 5000), st.integers(1, 500))
def test_start_and_end_are_always_probed_and_nothing_lies_beyond(schedule: Schedule, total: int, epoch_steps: int):
    steps = schedule.steps(total, epoch_steps)
    assert {0, total} <= set(steps) <= set(range(total + 1))
    assert steps == sorted(set(steps))
    assert steps == Schedule.model_validate_json(schedule.model_dump_json()).steps(total, epoch_steps)


@given(st.integers(2, 500), STEPS)
def test_log_takes_at_most_its_points_and_all_of_them_where_steps_are_many(points: int, total: int):
    steps = Schedule(kind="log", points=points).steps(total, 1)
    assert len(steps) <= points
    if total >= points**3:
        assert len(steps) > points / 2


def test_log_is_evenly_spaced_in_the_logarithm():
    assert Schedule(kind="log", points=5).steps(1000, 1) == [0, 1, 10, 100, 1000]
    assert Schedule(kind="log", points=2).steps(1000, 1) == [0, 1000]
    assert Schedule(kind="log", points=40).steps(3, 1) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("form", "total", "epoch_steps", "steps"),
    [
        ({"every": {"epochs": 1}}, 10, 4, [0, 4, 8, 10]),
        ({"every": {"epochs": 1}}, 8, 4, [0, 4, 8]),
        ({"every": {"epochs": 0.3}}, 10, 10, [0, 3, 6, 9, 10]),
        ({"every": {"epochs": 0.25}}, 10, 10, [0, 2, 5, 8, 10]),
        ({"every": {"epochs": 1e-9}}, 3, 1, [0, 1, 2, 3]),
        ({"every": {"epochs": 7}}, 10, 4, [0, 10]),
        ({"every": {"steps": 3}}, 10, 4, [0, 3, 6, 9, 10]),
        ({"every": {"steps": 1}}, 1, 4, [0, 1]),
        ({"at": [7, 3, 3, 11]}, 10, 4, [0, 3, 7, 10]),
        ({"at": []}, 10, 4, [0, 10]),
        ({"kind": "log", "points": 40}, 1, 4, [0, 1]),
    ],
)
def test_schedules_by_hand(form: dict, total: int, epoch_steps: int, steps: list[int]):
    assert Schedule.model_validate(form).steps(total, epoch_steps) == steps
