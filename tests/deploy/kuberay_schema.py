"""The fields of KubeRay's objects that deploy/ uses, as JSON schemas that forbid every other: a typo fails.

KubeRay's own definitions are a megabyte of generated YAML and on no package index. Pod templates are left open here;
they are checked as Kubernetes' own pods.
"""

from typing import Any

Schema = dict[str, Any]


def _object(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


_TEXT: Schema = {"type": "string", "minLength": 1}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TEMPLATE: Schema = {"type": "object", "required": ["spec"]}
# Flags of `ray start`, all of them strings; KubeRay refuses numbers.
_START: Schema = {"type": "object", "properties": {"labels": False}, "additionalProperties": _TEXT}
# Ray's labels, which KubeRay refuses among those flags.
_LABEL = {"type": "string", "pattern": r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"}
_LABELS: Schema = {"type": "object", "additionalProperties": _LABEL}

_HEAD = _object(
    ["rayStartParams", "template"],
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    enableIngress={"type": "boolean"},
    rayStartParams=_START,
    template=_TEMPLATE,
)
_WORKERS = _object(
    ["groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"],
    groupName=_TEXT,
    labels=_LABELS,
    replicas=_COUNT,
    minReplicas=_COUNT,
    maxReplicas=_COUNT,
    rayStartParams=_START,
    template=_TEMPLATE,
)
_CLUSTER = _object(
    ["rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"],
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=_object(["mode", "secretName"], mode={"enum": ["disabled", "token"]}, secretName=_TEXT),
    headGroupSpec=_HEAD,
    workerGroupSpecs={"type": "array", "minItems": 1, "items": _WORKERS},
)
_JOB = _object(
    ["entrypoint", "rayClusterSpec"],
    entrypoint=_TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    backoffLimit=_COUNT,
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=_COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    runtimeEnvYAML=_TEXT,
    submitterPodTemplate=_TEMPLATE,
    rayClusterSpec=_CLUSTER,
)


def _kind(kind: str, spec: Schema) -> Schema:
    metadata = _object(["name"], name=_TEXT, namespace=_TEXT, labels={"type": "object"})
    return _object(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


SCHEMAS = {"RayCluster": _kind("RayCluster", _CLUSTER), "RayJob": _kind("RayJob", _JOB)}
