"""What MLflow has of a study's runs, and by which tags a run is found and told from others."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tangentscope.pipeline.store.planned import PlannedRun
from tangentscope.pipeline.store.reader import Store
from tangentscope.pipeline.tracking import metrics

RUN, STORAGE, TRAJECTORY = "tangentscope.run", "tangentscope.storage", "tangentscope.trajectory"
"""Tags by which an MLflow run is found."""

NETWORK = "network"
"""The tag that runs share which differ by their seed only: MLflow's page groups by it, and draws means and ranges."""

_TAG = 4000  # characters that every backend takes
_NONFINITE = "nonfinite."


@dataclass
class Mirror:
    """What MLflow has of a run; `sent` has its points, once they have been asked for."""

    id: str
    trajectory: str
    status: str = "RUNNING"
    tags: dict[str, str] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    sent: dict[tuple[str, int], float] | None = None
    seen: list[pd.DataFrame] = field(default_factory=list)  # rows of the store's that MLflow has, for its mark

    def nonfinite(self, rows: pd.DataFrame) -> dict[str, str]:
        """Tags that say from which step on a curve has points that charts cannot show."""
        bad = rows.loc[~np.isfinite(rows["value"])].sort_values("step").drop_duplicates("key")
        tags = {
            _NONFINITE + key: f"{value} at step {step}"
            for key, value, step in zip(bad["key"], bad["value"], bad["step"], strict=True)
        }
        return {key: tag for key, tag in tags.items() if key not in self.tags}


def network_of(run: PlannedRun) -> str:
    """What is varied without the seed, e.g. ``width=8 depth=3``; the model's name where nothing is."""
    return run.name.removesuffix(f"seed={run.seed}").strip() or run.model


def tags_of(store: Store, run: PlannedRun, trajectory: str) -> dict[str, str]:
    """The tags of a planned run, whose values come of one trajectory."""
    provenance = store.provenance()
    model = dict(run.config["model"])
    tags = {RUN: run.id, STORAGE: store.storage.uri, TRAJECTORY: trajectory}
    tags |= {"study": store.name, "task": run.task, "seed": str(run.seed), NETWORK: network_of(run)}
    tags |= {"model": model.pop("name"), **model}
    tags |= {store.short(key): value for key, value in run.varied.items()}
    tags |= {"data": run.data.source, "parameters": str(run.parameters)}
    tags |= {"git_commit": provenance.get("git_commit") or "none", "git_dirty": provenance.get("git_dirty")}
    tags |= {f"repository.{name}": value for name, value in (provenance.get("repository") or {}).items()}
    tags |= {f"version.{name}": version for name, version in provenance.get("versions", {}).items()}
    if missing := metrics.left_out(store):
        tags |= {"metrics.left_out": f"beyond {metrics.MOST} curves, in the tables alone: {', '.join(missing)}"[:_TAG]}
    return {key: str(value) for key, value in tags.items()}
