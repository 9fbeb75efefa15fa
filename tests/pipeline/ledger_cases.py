"""A small plan and its ledger: notices of snapshots, jobs taken, rows delivered."""

from dataclasses import replace

from study_on_disk import Row, checksum

from tangentscope.pipeline.probing.ledger import Job, Ledger, compared_with
from tangentscope.pipeline.store.layout import Notice, SnapshotName
from tangentscope.pipeline.store.plan import Plan

PLAN: Row = {
    "runs": [
        {"run": "a", "schedule": [0, 5], "steps": 5, "epoch_steps": 5, "probes": ["p", "q"]},
        {"run": "b", "schedule": [0], "steps": 0, "epoch_steps": 5, "probes": ["q"]},
    ],
    "probes": [
        {"probe": "p", "variables": ["trace", "entropy"], "split": "train", "outputs": "full", "draws": 2, "size": 9},
        {"probe": "q", "variables": ["trace"], "split": "test", "outputs": "full", "draws": 2, "size": 9},
    ],
    "versions": {"trace": 1, "entropy": 3},
    "keep": "none",
}


def notice(run: str, step: int, attempt: int = 1) -> Notice:
    return Notice(run, SnapshotName(step, attempt, checksum(step, attempt)))


def tombstone(notice: Notice) -> Notice:
    return Notice(notice.run, replace(notice.name, freed=True))


def plan_of(record: Row) -> Plan:
    """A plan of which a record says only what a ledger looks at."""
    config = {"task": {"name": "points"}, "model": {"name": "mlp"}}
    runs = [{"name": run["run"], "seed": 0, "varied": {}, "config": config, **run} for run in record["runs"]]
    return Plan.from_json({"study": "tests", "varied": [], **record, "runs": runs})


def rows_of(job: Job, plan: Row | Plan = PLAN) -> list[Row]:
    plan = plan if isinstance(plan, Plan) else plan_of(plan)
    about = {"run": job.run, "step": job.name.step, "checksum": job.name.checksum, "state": "measured"}
    return [
        about
        | {"probe": probe, "variable": variable, "version": plan.versions[variable]}
        | {"compared_with": compared_with(plan.compares.get(variable, ()), job.earlier)}
        for probe, variables in job.wanted.items()
        for variable in variables
    ]


def taken(ledger: Ledger, prober: str = "one") -> Job:
    job = ledger.take(prober)
    assert job is not None
    return job


def done(ledger: Ledger, job: Job) -> Job | None:
    ledger.deliver(job.ticket)
    return ledger.settle(job.ticket, rows_of(job, ledger.plan))
