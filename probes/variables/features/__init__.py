"""Variables of the last hidden layer: one file a quantity, one line of the table each."""

from collections.abc import Callable, Mapping
from typing import Any

from tangentscope.probes.variables.features import (
    effective_dimension,
    feature_constant_overlap,
    feature_trace,
    intensities,
    kappa_cka,
    learnability,
    neural_collapse,
    quality,
    quantities,
    task_alignment,
    utilisation,
)
from tangentscope.probes.variables.variable import Variable

FEATURE_VARIABLES: Mapping[str, Variable] = {
    variable.name: variable
    for variable in (
        intensities.VARIABLE,
        quality.QUALITY,
        quality.CUMULATIVE,
        utilisation.UTILISATION,
        utilisation.CUMULATIVE,
        effective_dimension.INTENSITY,
        effective_dimension.QUALITY,
        effective_dimension.UTILISATION,
        effective_dimension.PLAIN,
        feature_trace.VARIABLE,
        kappa_cka.VARIABLE,
        feature_constant_overlap.VARIABLE,
        task_alignment.PLAIN,
        task_alignment.CENTRED,
        learnability.VARIABLE,
        neural_collapse.NC1_NORM,
        neural_collapse.NC1_TRACE,
        neural_collapse.NC2,
        neural_collapse.NC3,
        neural_collapse.NC4,
    )
}
"""All of them, by name."""

FEATURE_NEEDS: Mapping[str, Callable[..., Any]] = {
    need.__name__: need
    for need in (
        quantities.train_pass,
        quantities.test_pass,
        quantities.train_features,
        quantities.test_features,
        quantities.feature_spectrum,
        quantities.intensities,
        quantities.sample,
        quantities.eigenfunctions,
        quantities.target_space,
        quantities.learned_space,
        quantities.centred_features,
        quantities.class_features,
        quality.quality,
        utilisation.utilisation,
    )
}
"""What they can ask for, each computed once; the chain starts at what is given, ``FEATURE_GIVENS``."""

FEATURE_GIVENS: Mapping[str, str] = {
    "feature_map": "pass a model",
    "train_inputs": "pass train=(inputs, targets)",
    "train_classes": "pass train=(inputs, targets), with classes as targets",
    "test_inputs": "pass test=(inputs, targets)",
    "test_targets": "pass test=(inputs, targets)",
    "learned_points": "pass learned_points=, a number of data points to learn from",
}
"""What may be given, and how ``feature_metrics`` is told to supply it."""
