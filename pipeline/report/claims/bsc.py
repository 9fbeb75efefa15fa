"""The claims of BSC ("Beyond scaling curves")."""

from tangentscope.pipeline.report.claims import bsc_dynamics, bsc_exponents, bsc_transition
from tangentscope.pipeline.report.claims.claim import Claim, Needs, Varied
from tangentscope.pipeline.report.derived.ensembles import POINTS, WIDTHS
from tangentscope.probes.trajectories.break_point import FEWEST_SIZES as FEWEST_FOR_BREAKS
from tangentscope.probes.trajectories.power_law import FEWEST_SIZES

_KERNELS = ("trace", "effective_rank_cosine")
_TURNS = ("misalignment_subspace_step", "label_alignment")

CLAIMS: dict[str, Claim] = {
    "bsc_model_exponents": Claim(
        bsc_exponents.model_exponents,
        "BSC §4.2, fig. 2",
        "bsc_scaling",
        Needs(variables=_KERNELS, varied=(Varied(WIDTHS, FEWEST_SIZES),)),
    ),
    "bsc_data_exponents": Claim(
        bsc_exponents.data_exponents,
        "BSC §4.2, fig. 2",
        "bsc_scaling",
        Needs(variables=_KERNELS, varied=(Varied(POINTS, FEWEST_SIZES),)),
    ),
    "bsc_transition": Claim(
        bsc_transition.transition,
        "BSC §5, fig. 3",
        "bsc_transition",
        Needs(variables=_KERNELS, varied=(Varied(WIDTHS, FEWEST_FOR_BREAKS),)),
    ),
    "bsc_transition_depth": Claim(
        bsc_transition.transition_depth,
        "BSC §5, §5.1",
        "bsc_transition",
        Needs(variables=_KERNELS, varied=(Varied(WIDTHS, FEWEST_FOR_BREAKS), Varied(("model.depth",), 2))),
    ),
    "bsc_dynamics": Claim(
        bsc_dynamics.dynamics,
        "BSC §4.1, figs 1, 5, 6",
        "bsc_dynamics",
        Needs(variables=_KERNELS, varied=(Varied((*WIDTHS, *POINTS), FEWEST_SIZES),)),
    ),
    "bsc_noise": Claim(
        bsc_dynamics.noise,
        "BSC App. B.2, figs 4, 7",
        "bsc_noise",
        Needs(variables=_KERNELS, varied=(Varied((bsc_dynamics.REPLACED,), 3),)),
    ),
    "bsc_alignment": Claim(bsc_dynamics.alignment, "BSC App. E.3, fig. 8", "bsc_alignment", Needs(variables=_TURNS)),
}
