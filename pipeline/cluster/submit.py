"""Submitting a study as a Ray job, which goes on by itself, and following its logs."""

import asyncio
import logging
import os
import re
import secrets
import shlex
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import ray
import requests
from packaging.version import Version
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from rich.console import Console

from tangentscope.pipeline.cluster import bundle
from tangentscope.pipeline.cluster.token import check_token
from tangentscope.pipeline.study.spec import Study
from tangentscope.pipeline.system.errors import UserError, one_line
from tangentscope.pipeline.system.redaction import redacted

# Between SIGTERM and SIGKILL of `ray job stop`: Ray's own 3 s are too few for checkpoints and the last rows.
_STOP_SECONDS = 120
# They log each step of an upload.
_TALKATIVE = ("dashboard.modules.job.sdk", "dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging")


def submit(
    console: Console, study: Study, address: str, entrypoint: str, environment: dict[str, str], wait: bool = True
) -> int:
    """Upload the code and a study, start `entrypoint` there as a job, and follow it until it ends.

    Args:
        console: Where to say what happens.
        study: The study, validated.
        address: Of the cluster's dashboard, which takes jobs.
        entrypoint: The command, as :func:`tangentscope.pipeline.cluster.bundle.entrypoint` makes it.
        environment: Variables for the job; everybody who sees the cluster sees them.
        wait: Follow the logs until the job ends, or until SIGINT, which leaves the job running.

    Returns:
        The exit code: 0 if the job succeeded or was not waited for, 1 if it failed or was stopped, 130 after SIGINT.

    Raises:
        UserError: Nobody takes jobs at `address`, or not from us, or with another Ray.
    """
    name = f"{study.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    variables = {**environment, "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}
    with tempfile.TemporaryDirectory(prefix="tangentscope-") as folder:
        bundle.stage(study, Path(folder))
        with _refusals(address):
            client = _client(address)
            surroundings = {"working_dir": folder, "env_vars": variables}
            client.submit_job(entrypoint=entrypoint, submission_id=name, runtime_env=surroundings)
    mode, at = f"RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}", f"{name} --address {shlex.quote(address)}"
    look, stop = f"{mode} ray job logs {at} --follow", f"{mode} ray job stop {at}"
    for line in (f"submitted {name}", f"look again:  {look}", f"stop it:     {stop}"):
        _say(console, line)
    if not wait:
        return 0
    try:
        ended = asyncio.run(_follow(console, client, name))
    except KeyboardInterrupt:
        _say(console, f"{name} goes on without this command; to stop it:  {stop}")
        return 128 + signal.SIGINT
    except (requests.RequestException, RuntimeError) as error:
        cause = type(error).__name__
        raise UserError(
            f"{address} does not answer any more ({cause}), and {name} may go on; look again: {look}"
        ) from None
    if ended.status == JobStatus.FAILED and ended.driver_exit_code is None:
        _say(console, ended.message or "")  # why it did not even start; what happens later stands in its logs
    _say(console, f"{name} {ended.status.lower()}")
    return 0 if ended.status == JobStatus.SUCCEEDED else 1


def _client(address: str) -> JobSubmissionClient:
    if not address.startswith(("http://", "https://")):
        raise UserError(f"address {address}: expected the cluster's dashboard, such as http://127.0.0.1:8265")
    check_token()
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # or Ray lets a RAY_ADDRESS that is set win over what is given
    for module in _TALKATIVE:
        logging.getLogger(f"ray.{module}").setLevel(logging.ERROR)
    client = JobSubmissionClient(address)
    there, here = str(client._server_ray_version), ray.__version__
    if Version(there).release[:2] != Version(here).release[:2]:
        mend = f"install ray=={here} on the cluster's machines"
        raise UserError(f"{address} runs Ray {there}, this machine {here}; {mend}")
    return client


@contextmanager
def _refusals(address: str) -> Iterator[None]:
    """What Ray and HTTP raise while a job is handed over, as one line."""
    try:
        yield
    except AuthenticationError as error:
        cause = re.split(r"\n|\. ", str(error))[0]  # what follows is advice of several lines
        mend = "set RAY_AUTH_TOKEN to the cluster's, or RAY_AUTH_TOKEN_PATH to its file, with RAY_AUTH_MODE=token"
        raise UserError(f"{address}: {cause}; {mend}") from None
    except (OSError, KeyError, ValueError, RuntimeError) as error:  # no server, another one, or one that refuses
        mend = "start the cluster's head with a dashboard (ray[default]), or a tunnel to it"
        raise UserError(f"{address} takes no Ray jobs: {one_line(error).rstrip('.')}; {mend}") from None


async def _follow(console: Console, client: JobSubmissionClient, name: str) -> JobDetails:
    """Print the job's logs until it has ended. Where a connection breaks, as idle ones do, the next one goes on."""
    shown = 0
    while True:
        seen = 0
        try:
            async for text in client.tail_job_logs(name):  # from the start
                console.out(text[max(0, shown - seen) :], end="", highlight=False)
                seen += len(text)
                shown = max(shown, seen)
        except (aiohttp.ClientError, RuntimeError):
            pass
        info = client.get_job_info(name)
        if info.status.is_terminal():
            return info
        await asyncio.sleep(1)


def _say(console: Console, text: str) -> None:
    console.print(redacted(text), markup=False, highlight=False)
