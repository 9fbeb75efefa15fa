"""How the numbers of a report came about, in paragraphs that can be pasted into a paper, with their citations."""

from collections.abc import Sequence

from tangentscope.pipeline.report.claims.findings import FEWEST_SEEDS
from tangentscope.pipeline.report.derived import WINDOW
from tangentscope.pipeline.report.view import View
from tangentscope.pipeline.store.planned import PlannedProbe

CV = "Tovey et al. (2024)"
BSC = "“Beyond Scaling Curves”"
NAM = "Nam (2024)"

_DEFINITIONS = {
    "trace": f"the trace Tr Θ = Σᵢ Θᵢᵢ over all data points and outputs ({CV}, eq. 10)",
    "entropy": (
        "the entropy S = −Σₖ pₖ ln pₖ with pₖ = λₖ/Σλ, λₖ the eigenvalues of Θ, negative ones by rounding set to 0 "
        f"({CV}, eq. 9)"
    ),
    "effective_rank": f"the effective rank exp S ({BSC}, eq. 3, here of Θ as it is)",
    "layer_traces": "the traces of the layers' parts Θ_l of Θ = Σ_l Θ_l",
    "new_point_step_parameters": (
        "the step ‖Δθ‖/η = sqrt(rᵀΘ(x,x)r) of gradient descent at a rate η → 0 on one point x, with the residual r "
        f"under a target at which the cross-entropy is ln C ({CV}, §3.1)"
    ),
    "new_point_step_outputs": "the change ‖Δf(x)‖/η = ‖Θ(x,x)r‖ of the outputs at that point",
}


def methods(view: View) -> list[str]:
    """What was measured and how, what is derived from it, and how claims are decided."""
    of_kernels = [how for how in view.probes.values() if not how.is_of_features]
    paragraphs = [_kernels(view, of_kernels), _derived(view)] if of_kernels else []
    of_features = [how for how in view.probes.values() if how.is_of_features]
    paragraphs += [_features(view, of_features)] if of_features else []
    if view.options.get("claims"):
        paragraphs.append(
            "Each claim has one number a seed, a margin fixed beforehand, and a 95 % percentile bootstrap interval for "
            "the mean over seeds (9,999 resamples). It held if the interval lies wholly within the margin, failed if "
            f"wholly outside, and is undecided otherwise or with fewer than {FEWEST_SEEDS} seeds."
        )
    return paragraphs or ["Nothing is planned to be measured."]


def _kernels(view: View, probes: Sequence[PlannedProbe]) -> str:
    variables = list(dict.fromkeys(name for how in probes for name in how.variables))
    known = [_DEFINITIONS[name] for name in variables if name in _DEFINITIONS]
    others = [name.replace("_", " ") for name in variables if name not in _DEFINITIONS]
    kernels = "; ".join(dict.fromkeys(str(view.kernel_of(how.id)) for how in probes))
    splits = " and ".join(dict.fromkeys(how.split for how in probes))
    observed = list(dict.fromkeys(run.observes for run in view.runs if run.observes))
    told = f"Outputs are {', '.join(map(str, observed))}. " if observed else ""
    return (
        "Empirical neural tangent kernels Θ[(i,a),(j,b)] = Σₚ ∂f_a(xᵢ)/∂θₚ · ∂f_b(xⱼ)/∂θₚ were computed of the "
        f"networks in evaluation mode, on {splits} data ({kernels}; the same draws at every step of a run). {told}"
        f"Measured were {'; '.join(known) or 'no quantities of the papers'}"
        f"{f'; and {chr(44).join(others)}'.replace(',', ', ') if others else ''}. "
        "Values are means over draws, with the standard error over draws; logarithms are natural, entropies in nats. "
        "Kernels are in the networks' own precision, spectra in float64."
    )


def _features(view: View, probes: Sequence[PlannedProbe]) -> str:
    ways = "; ".join(dict.fromkeys(str(view.kernel_of(how.id)) for how in probes))
    names = dict.fromkeys(name.replace("_", " ") for how in probes for name in how.variables)
    return (
        f"Features Φ(x) are what enters the networks' last linear layer, in evaluation mode ({ways}; the same points "
        "at every step of a run). T = Σₖ |Φₖ⟩⟨Φₖ| has eigenvalues ρₖ (intensities) and eigenfunctions "
        f"eₖ of the training points ({NAM}, eq. 1.29); quality Q*, utilisation Q̂ and κ = 1 − CKA(T, T_MP) ({NAM}, eq. "
        f"2.3–2.9) are of held-out points, neural collapse ({NAM}, App. D) of training points. Measured were "
        f"{', '.join(names)}. Below κ = 0.1 a network is in the minimum-feature regime."
    )


def _derived(view: View) -> str:
    return (
        f"The regime follows {CV}, §3.1, from the entropy smoothed over three steps: compression where it falls, "
        "formation where it rises, by more than 2 % of its first value and twice the standard error over draws; it "
        "turns where the smoothed entropy is least. The trace ratio is (Tr Θ* − Tr Θ₀)/Tr Θ₀, * at the least test loss "
        f"({BSC}, eq. 5); the adaptation rate −d⟨Tr Θ⟩/d⟨ln L⟩ of means over seeds, L on training data, each averaged "
        f"over {WINDOW} epochs ({BSC}, eq. 4), with a jackknife error over seeds."
    )
