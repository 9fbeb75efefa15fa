"""The claims of CV and of CV-notes. A new one is a function of the study in a file beside this, and an entry here."""

from tangentscope.pipeline.report.claims import (
    cv_entropy,
    cv_heat_maps,
    cv_late_data,
    cv_persistence,
    cv_scans,
    cv_trace,
)
from tangentscope.pipeline.report.claims.claim import Claim, Needs, Varied

_WIDTH = Varied(cv_scans.WIDTHS, cv_scans.FEWEST_SIZES)
_GRID = (Varied(cv_scans.WIDTHS, 2), Varied((cv_scans.DEPTH,), 2))
_BOTH = {cv_scans.ACTIVATION: ("relu", "tanh")}

CLAIMS: dict[str, Claim] = {
    "compression": Claim(cv_entropy.compression, "CV §3.1", "curves", Needs(variables=("entropy",))),
    "formation_grows_with_width": Claim(
        cv_scans.formation_grows_with_width, "CV §3.1", "curves", Needs(variables=("entropy",), varied=(_WIDTH,))
    ),
    "trace_follows_loss": Claim(cv_trace.trace_follows_loss, "CV §3.1", "curves", Needs(variables=("trace",))),
    "fig2_start": Claim(
        cv_heat_maps.start, "CV §3.1, fig. 2a", "heat_maps", Needs(variables=("entropy", "trace"), varied=_GRID)
    ),
    "fig2_end": Claim(
        cv_heat_maps.end, "CV §3.1, fig. 2b", "heat_maps", Needs(variables=("entropy",), varied=_GRID, values=_BOTH)
    ),
    "fig3_no_compression": Claim(
        cv_entropy.no_compression, "CV §4, fig. 3", "running_average", Needs(variables=("entropy",))
    ),
    "fig3_dip": Claim(cv_trace.dip, "CV §4.3, fig. 3d–e", "running_average", Needs(variables=("trace",))),
    "resolution": Claim(
        cv_entropy.resolution, "CV §4", "running_average", Needs(variables=("entropy",), within_epoch=True)
    ),
    "loss_trends": Claim(
        cv_scans.loss_trends,
        "CV §3.1",
        "curves",
        Needs(variables=("entropy",), varied=(Varied((*cv_scans.WIDTHS, cv_scans.DEPTH), cv_scans.FEWEST_SIZES),)),
    ),
    "late_data": Claim(
        cv_late_data.late_data, "CV §3.1", "new_points", Needs(variables=tuple(cv_late_data.STEPS), splits=("test",))
    ),
    "persistence": Claim(
        cv_persistence.persistence,
        "CV-notes, next checks 1 and 3",
        "curves",
        Needs(variables=("entropy", "trace"), any_of=cv_persistence.CHANGES),
    ),
    "small_compress_large_form": Claim(
        cv_scans.small_compress_large_form,
        "CV-notes, first experiment 2",
        "curves",
        Needs(variables=("entropy",), varied=(Varied(cv_scans.WIDTHS, 2),)),
    ),
    "monotone_trace": Claim(cv_trace.monotone, "CV-notes, key results", "curves", Needs(variables=("trace",))),
}
