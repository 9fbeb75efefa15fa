"""All that names Ray: the actors, the training workers and the scheduler that starts them."""

import os
import sys

# Read by Ray when it is imported, so they stand before any import of it. A user's own settings win.
# Clients need a token from now on; `ray job submit` needs the same mode on its side.
os.environ.setdefault("RAY_AUTH_MODE", "token")
# The controller of Ray Train notices a worker's end or death at its next poll; by default that is every 2 s.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Its logs go to Ray's session directory, see `pipeline.cluster.controller`: a launch prints progress of its own.
os.environ.setdefault("RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING", "0")

if "ray" in sys.modules:  # imported by a user's own script: it has read its settings, without the token's
    import ray
    from ray._raylet import Config  # pyright: ignore[reportAttributeAccessIssue]  compiled, as Ray itself uses it

    if not ray.is_initialized():
        Config.initialize("")
