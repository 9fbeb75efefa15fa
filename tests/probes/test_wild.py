"""Networks that nobody here wrote, by kind: each against brute force in everything that can be asked of it."""

import pytest
from wild_attention import ATTENTION
from wild_case import Wild, check_all, check_some
from wild_complex import COMPLEX
from wild_convolutions import CONVOLUTIONS
from wild_dense import DENSE
from wild_functions import FUNCTIONS
from wild_gradients import GRADIENTS
from wild_hooks import HOOKS
from wild_kept import COPIES, KEPT
from wild_norms import NORMS
from wild_parametrised import PARAMETRISED
from wild_patched import PATCHED
from wild_recurrent import RECURRENT

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning"),  # of networks that are meant to be old
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning"),
]

UNUSUAL = [*GRADIENTS, *HOOKS, *CONVOLUTIONS, *PATCHED, *COMPLEX, *KEPT, *COPIES, *FUNCTIONS]
"""Networks that do something which rules of layers, or the graph, could overlook."""

ORDINARY = [*DENSE, *ATTENTION, *RECURRENT, *NORMS, *PARAMETRISED]
"""Layers known by what they compute alone; every other one of them by default."""

CASES = [*UNUSUAL, *ORDINARY]


def test_names_differ():
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=(pytest.mark.slow,) if slow else ())
        for number, case in enumerate(CASES)
        for slow in [case.slow or (case in ORDINARY and number % 2 == 1)]
    ],
)
def test_agrees_with_brute_force(case: Wild):
    with case.around():
        check_some(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_agrees_in_every_treatment_and_precision(case: Wild):
    with case.around():
        check_all(case)
