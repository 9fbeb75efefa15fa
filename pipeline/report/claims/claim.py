"""What a claim is: how it is decided, what a study must have for that, and which figure shows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tangentscope.pipeline.report.claims.findings import Finding
from tangentscope.pipeline.report.view import View


@dataclass(frozen=True)
class Varied:
    """A number that a study has to vary.

    Attributes:
        fields: Any one of these does, e.g. ``model.width`` or, for transformers, ``model.dim``.
        least: How many different values it takes.
    """

    fields: tuple[str, ...]
    least: int


@dataclass(frozen=True)
class Needs:
    """What a study must have for a claim.

    Attributes:
        variables: That are measured.
        splits: That kernels are of.
        varied: Numbers that are varied.
        values: By field, the values that it must take among others.
        any_of: The beginnings of field names, one of which has to be varied.
        plays: Whether the task is a game; else it has a loss.
        within_epoch: Kernels are taken within the first epoch too.
    """

    variables: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    varied: tuple[Varied, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    any_of: tuple[str, ...] = ()
    plays: bool = False
    within_epoch: bool = False


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        decide: What a study says to it: a finding for each network, or for each part of the claim.
        source: Where the paper makes it, e.g. ``CV §3.1``.
        figure: The figure that shows it best.
        needs: What a study must have.
    """

    decide: Callable[[View], list[Finding]]
    source: str
    figure: str
    needs: Needs

    def __call__(self, view: View) -> list[Finding]:
        """What a study says to it."""
        return self.decide(view)
