"""Every rule holds for deploy/, and notices what breaks it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import rules_agreement as agreement
import rules_commands as commands
import rules_formats as formats
import rules_safety as safety
from manifests import ROOT

Rule = Callable[[Path], set[str]]
RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        formats.yaml_files,
        formats.kubernetes_objects,
        formats.kuberay_objects,
        formats.compose_file,
        formats.launcher_file,
        formats.shell_scripts,
        formats.images_are_built_well,
        safety.nothing_runs_as_root,
        safety.no_port_is_open,
        safety.no_secret_is_written,
        safety.images_are_pinned,
        commands.our_commands,
        commands.others_commands,
        agreement.versions,
        agreement.copied_files,
        agreement.one_cluster,
        agreement.room_for_the_study,
        agreement.addresses,
        agreement.secrets,
    )
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_holds(rule: str):
    assert RULES[rule](ROOT) == set()


# Rule, file below deploy/, what stands there, and what stands there instead.
VIOLATIONS = [
    ("yaml_files", "kubernetes/results.yaml", "kind: P", "kind: Pod\nkind: P"),
    ("yaml_files", "mlflow/compose.yaml", "services:", "services: ["),
    ("kubernetes_objects", "kubernetes/results.yaml", "accessModes", "accessMode"),
    ("kubernetes_objects", "kubernetes/results.yaml", "PersistentVolumeClaim", "PersistentVolumesClaim"),
    ("kubernetes_objects", "kubernetes/raycluster.yaml", "fsGroupChangePolicy", "fsGroupPolicy"),
    ("kubernetes_objects", "kubernetes/raycluster.yaml", "containerPort: 6379", 'containerPort: "gcs"'),
    ("kubernetes_objects", "kubernetes/rayjob.yaml", "restartPolicy: Never", "restart: Never"),
    ("kubernetes_objects", "mlflow/kubernetes/mlflow.yaml", "readinessProbe", "readyProbe"),
    ("kuberay_objects", "kubernetes/rayjob.yaml", "ttlSecondsAfterFinished", "ttlSecondsAfterFinish"),
    ("kuberay_objects", "kubernetes/rayjob.yaml", "K8sJobMode", "JobMode"),
    ("kuberay_objects", "kubernetes/rayjob.yaml", "backoffLimit: 2", 'backoffLimit: "2"'),
    ("kuberay_objects", "kubernetes/raycluster.yaml", 'num-cpus: "0"', "num-cpus: 0"),
    ("kuberay_objects", "kubernetes/raycluster.yaml", "ray.io/v1", "ray.io/v1alpha1"),
    ("kuberay_objects", "kubernetes/raycluster.yaml", "mode: token", "mode: tokens"),
    ("kuberay_objects", "kubernetes/raycluster.yaml", "pool: train", 'pool: "train,probe"'),
    ("kuberay_objects", "kubernetes/raycluster.yaml", 'num-gpus: "1"', "labels: pool=train"),
    ("compose_file", "mlflow/compose.yaml", "healthcheck:", "healthchecks:"),
    ("compose_file", "mlflow/compose.yaml", "POSTGRES_PASSWORD:?set", "POSTGRES_PASSWORD:-set"),
    ("compose_file", "mlflow/compose.yaml", "bucket: {condition", "buckets: {condition"),
    ("compose_file", "mlflow/compose.yaml", "volumes: [s3:/data]", "volumes: [s4:/data]"),
    ("compose_file", "mlflow/compose.yaml", "PGUSER: mlflow", "PGUSER: $USER"),
    ("launcher_file", "ray-cluster.yaml", "head_ip", "head_ips"),
    ("launcher_file", "ray-cluster.yaml", "worker_start_ray_commands", "worker_start_commands"),
    ("launcher_file", "ray-cluster.yaml", "pull_before_run: false", "pull_before_run: 7"),
    ("shell_scripts", "slurm/study.sbatch", 'exit "$code"', "exit $code2"),
    ("shell_scripts", "slurm/study.sbatch", "done\n\nif", "if"),
    ("images_are_built_well", "Containerfile", "SHELL [", "SHELLS ["),
    ("images_are_built_well", "mlflow/Containerfile", "RUN groupadd", "RUN sudo groupadd"),
    ("nothing_runs_as_root", "kubernetes/raycluster.yaml", "runAsUser: 10001", "runAsUser: 0"),
    ("nothing_runs_as_root", "kubernetes/raycluster.yaml", "drop: [ALL]", "drop: [NET_RAW]"),
    ("nothing_runs_as_root", "kubernetes/rayjob.yaml", "allowPrivilegeEscalation: false", "privileged: false"),
    ("nothing_runs_as_root", "mlflow/kubernetes/postgres.yaml", "runAsNonRoot: true", "runAsNonRoot: false"),
    ("nothing_runs_as_root", "mlflow/kubernetes/s3.yaml", "emptyDir: {}", "hostPath: {path: /}"),
    ("nothing_runs_as_root", "mlflow/kubernetes/s3.yaml", "memory: 512Mi", ""),
    ("nothing_runs_as_root", "mlflow/compose.yaml", 'user: "999:999"', 'user: "0:999"'),
    ("nothing_runs_as_root", "mlflow/compose.yaml", "cap_drop: [ALL]", "cap_drop: []"),
    ("nothing_runs_as_root", "Containerfile", "USER ${USER_ID}:${GROUP_ID}", ""),
    ("nothing_runs_as_root", "Containerfile", "ARG USER_ID=10001", "ARG USER_ID=0"),
    ("nothing_runs_as_root", "mlflow/Containerfile", "USER 10001:10001\nCMD", "CMD"),
    ("nothing_runs_as_root", "ray-cluster.yaml", "- --init", "- --privileged"),
    ("no_port_is_open", "mlflow/compose.yaml", "127.0.0.1:5000:5000", "5000:5000"),
    ("no_port_is_open", "mlflow/compose.yaml", "127.0.0.1:5000:5000", "0.0.0.0:5000:5000"),
    ("no_port_is_open", "mlflow/kubernetes/mlflow.yaml", "type: ClusterIP", "type: NodePort"),
    ("no_port_is_open", "kubernetes/raycluster.yaml", "serviceType: ClusterIP", "serviceType: LoadBalancer"),
    ("no_port_is_open", "kubernetes/raycluster.yaml", "containerPort: 6379", "hostPort: 6379"),
    ("no_port_is_open", "ray-cluster.yaml", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
    ("no_port_is_open", "slurm/study.sbatch", "--dashboard-host=127.0.0.1", ""),
    ("no_port_is_open", "README.md", "--host 127.0.0.1", "--host 0.0.0.0"),
    ("no_secret_is_written", "kubernetes/results.yaml", "kind: PersistentVolumeClaim", "kind: Secret"),
    ("no_secret_is_written", "kubernetes/raycluster.yaml", "name: MLFLOW_TRACKING_URI", "name: RAY_AUTH_TOKEN"),
    ("no_secret_is_written", "mlflow/compose.yaml", "${S3_SECRET_KEY:?set S3_SECRET_KEY in .env}", "hunter2"),
    ("no_secret_is_written", "mlflow/basic_auth.ini", "default_permission = READ", "admin_password = hunter2"),
    ("no_secret_is_written", "mlflow/basic_auth.ini", "psycopg:///", "psycopg://mlflow:hunter2@postgres/"),
    ("no_secret_is_written", "README.md", 'admin-password="$(openssl', 'admin-password="hunter2" "$(openssl'),
    ("no_secret_is_written", "README.md", '"password": "%s"', '"password": "hunter2"'),
    ("no_secret_is_written", "ray-cluster.yaml", "--env=RAY_AUTH_MODE=token", "--env=RAY_AUTH_TOKEN=hunter2"),
    ("no_secret_is_written", "ray-cluster.yaml", "MODE=token", "MODE=0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
    ("images_are_pinned", "mlflow/compose.yaml", "postgres:17.7-bookworm", "postgres:17"),
    ("images_are_pinned", "mlflow/compose.yaml", "postgres:17.7-bookworm", "postgres:latest"),
    ("images_are_pinned", "Containerfile", "python:3.11.14-slim-bookworm AS", "python:slim AS"),
    ("images_are_pinned", "kubernetes/raycluster.yaml", "tangentscope:0.1.0", "tangentscope"),
    ("images_are_pinned", "ray-cluster.yaml", "tangentscope:0.1.0", "tangentscope:latest"),
    ("images_are_pinned", "requirements.txt", "torch==", "torch>="),
    ("our_commands", "README.md", "--out results/quickstart", "--outs results/quickstart"),
    ("our_commands", "README.md", "tangentscope status /results", "tangentscope state /results"),
    ("our_commands", "README.md", "--address auto --out", "--adress auto --out"),
    ("our_commands", "kubernetes/rayjob.yaml", "resources.train.gpu=1", "resources.train.gpus=1"),
    ("our_commands", "kubernetes/rayjob.yaml", "run quickstart", "run quickstart --forever"),
    ("our_commands", "Containerfile", '"doctor"', '"physician"'),
    ("others_commands", "README.md", "ray up --yes", "ray up --sure"),
    ("others_commands", "README.md", "ray job stop", "ray job halt"),
    ("others_commands", "mlflow/Containerfile", '"--workers"', '"--worker-count"'),
    ("others_commands", "ray-cluster.yaml", "--disable-usage-stats", "--disable-stats"),
    ("others_commands", "ray-cluster.yaml", "--labels=", "--label="),
    ("others_commands", "slurm/study.sbatch", "--disable-usage-stats", "--no-usage-stats"),
    ("others_commands", "kubernetes/raycluster.yaml", "num-gpus:", "gpus:"),
    ("versions", "requirements.txt", "pandas==", "pandas==1."),
    ("versions", "kubernetes/rayjob.yaml", "rayVersion: 2.60.0", "rayVersion: 2.59.0"),
    ("versions", "mlflow/requirements.txt", "mlflow==3.17.2", "mlflow==3.17.1"),
    ("versions", "ray-cluster.yaml", "tangentscope:0.1.0", "tangentscope:0.0.9"),
    ("copied_files", "Containerfile", "COPY studies ./studies", ""),
    ("copied_files", "Containerfile.dockerignore", "!tasks", ""),
    ("copied_files", "mlflow/Containerfile", "basic_auth.ini bucket.py", "basic_auth.ini buckets.py"),
    ("copied_files", "README.md", "(slurm/study.sbatch)", "(slurm/job.sbatch)"),
    ("copied_files", "README.md", "(#in-kubernetes)", "(#on-kubernetes)"),
    ("one_cluster", "kubernetes/rayjob.yaml", "mountPath: /studies", "mountPath: /study"),
    ("room_for_the_study", "kubernetes/rayjob.yaml", "resources.probe.cpu=8", "resources.probe.cpu=9"),
    ("room_for_the_study", "kubernetes/rayjob.yaml", "resources.train.labels.pool=train", ""),
    ("room_for_the_study", "kubernetes/rayjob.yaml", "resources.probe.labels.pool=probe", "resources.probe.labels.a=b"),
    ("room_for_the_study", "kubernetes/rayjob.yaml", "pool: probe", "pool: train"),
    ("room_for_the_study", "kubernetes/rayjob.yaml", "resources.probe.actors=2", "resources.probe.actors=3"),
    ("room_for_the_study", "kubernetes/rayjob.yaml", "--out /results/", "--out /tmp/"),
    ("room_for_the_study", "kubernetes/raycluster.yaml", 'num-cpus: "8"', 'num-cpus: "16"'),
    ("addresses", "kubernetes/raycluster.yaml", "http://mlflow:5000", "http://mlflow:80"),
    ("secrets", "kubernetes/raycluster.yaml", "secretName: tangentscope-ray", "secretName: ray"),
    ("secrets", "mlflow/kubernetes/mlflow.yaml", "key: flask-key", "key: flask"),
    ("addresses", "mlflow/kubernetes/mlflow.yaml", "value: mlflow:*,", "value: "),
    ("addresses", "mlflow/kubernetes/mlflow.yaml", "value: postgres", "value: postgresql"),
    ("addresses", "mlflow/compose.yaml", "localhost:*,127.0.0.1:*", "localhost"),
    ("secrets", "mlflow/compose.yaml", "MLFLOW_FLASK_KEY:?", "MLFLOW_FLASK:?"),
]  # fmt: skip


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the rules read, in which rules may be broken."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "deploy", root / "deploy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    for package in ("pipeline", "probes", "models", "tasks", "studies", "tangentscope"):
        (root / package).mkdir()
    return root


@pytest.mark.parametrize(("rule", "file", "old", "new"), VIOLATIONS)
def test_a_planted_violation_is_noticed(rule: str, file: str, old: str, new: str, elsewhere: Path):
    path = elsewhere / "deploy" / file
    before = path.read_text()
    assert old in before
    try:
        path.write_text(before.replace(old, new))
        assert RULES[rule](elsewhere)
    finally:
        path.write_text(before)


def test_no_rule_goes_unprobed():
    assert {rule for rule, *_ in VIOLATIONS} == set(RULES)


def test_the_copy_itself_is_good(elsewhere: Path):
    assert {name: found for name, rule in RULES.items() if (found := rule(elsewhere))} == {}
