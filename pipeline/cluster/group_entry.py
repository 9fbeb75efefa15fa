"""Where a worker of a training group begins.

Ray Train's controller loads this, and no worker starts before it has: what takes seconds to load waits inside.
"""

from typing import Any

from tangentscope.pipeline.system.loading import without_collections


def train_group(config: dict[str, Any]) -> None:
    """What each worker of a group does. `config` has the :class:`Group` as ``group``."""
    with without_collections():
        from tangentscope.pipeline.cluster.worker import train_units  # torch, networks, data sets

    train_units(config["group"])
