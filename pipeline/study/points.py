"""The points of a study's probes, drawn from its data and published."""

from torch import Tensor

from tangentscope.pipeline.probing.points import draw_feature_points, draw_points
from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.store.points import keep_points
from tangentscope.pipeline.study.runs import FeatureProbe, Probe, Run


def store_points(storage: Storage, runs: list[Run]) -> list[str]:
    """Draw and publish the points of every probe that has none yet, or none that are whole; a line about each latter.

    What an older version wrote, without a checksum, is held against the points that are drawn now.
    """
    lines: list[str] = []
    probes = {probe.id: (probe, run) for run in runs for probe in run.every_probe}
    for probe, run in probes.values():

        def draw(probe: Probe | FeatureProbe = probe, run: Run = run) -> dict[str, Tensor]:
            if isinstance(probe, FeatureProbe):
                return draw_feature_points(run.data.train, run.data.test, probe.points)
            return draw_points(getattr(run.data, probe.split), probe.kernel)

        if (fault := keep_points(storage, probe.planned(), draw)) is not None:
            lines.append(f"{fault}; drawn again from the data")
    return lines
