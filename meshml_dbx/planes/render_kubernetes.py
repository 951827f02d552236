"""A member in Kubernetes: a stock Envoy as a native sidecar, its files, and how it is found.

Goes in: a rendering and Envoy's files. Comes out: manifests. Keys are in none of them: the Secret
is made by a command from where the keys lie, unless its content is asked for.
"""

import json
import shlex
from collections.abc import Mapping

from meshml_dbx.errors import EnvoyError
from meshml_dbx.mesh import names
from meshml_dbx.mesh.spec import MeshClient
from meshml_dbx.planes.render_pack import packed
from meshml_dbx.planes.render_ship import ship_command
from meshml_dbx.planes.render_terms import (
    ENVOY_USER,
    FLAGS,
    SHIPPER_IMAGE,
    Rendering,
    digest,
    resource_name,
)
from meshml_dbx.planes.render_yaml import to_yaml
from meshml_dbx.traffic.context import PROCESS_VARIABLE, SIDECAR_VARIABLE

Body = dict[str, object]

APP_IMAGE = "${APP_IMAGE}"
CONFIG_FILE, WORKLOAD_FILE, SERVICE_FILE = "config.yaml", "workload.yaml", "service.yaml"
SECRET_FILE, SECRET_SCRIPT = "secret.yaml", "secret.sh"
MOST_BYTES = 1_000_000
"""A ConfigMap holds 1 MiB, its names and its own fields included."""
ARCHIVE = "files.tar.gz"

_MAKING = """\
#!/bin/sh
# Makes the Secret of {member}'s certificates, or renews it: running pods see the change by
# themselves. Options are kubectl's, such as --namespace or --context.
set -eu
kubectl create secret generic {name} \\
{files}
    --dry-run=client -o yaml "$@" | kubectl apply "$@" -f -
"""


def kubernetes_files(rendering: Rendering, config: Mapping[str, str]) -> dict[str, str]:
    """The manifests, and the script that makes the Secret.

    Raises:
        EnvoyError: Envoy's files are larger than a ConfigMap can be.
    """
    config_map = _config_map(rendering, config)
    files = {
        CONFIG_FILE: to_yaml(config_map),
        WORKLOAD_FILE: to_yaml(_workload(rendering, config_map, tuple(config))),
    }
    if rendering.ports:
        files[SERVICE_FILE] = to_yaml(_service(rendering))
    if rendering.certificates and rendering.inline is not None:
        files[SECRET_FILE] = to_yaml(_secret(rendering, rendering.inline))
    elif rendering.certificates:
        files[SECRET_SCRIPT] = _secret_script(rendering)
    return files


def secret_name_of(rendering: Rendering) -> str:
    """The Secret that holds a member's certificates."""
    return f"{_name(rendering)}-certificates"


def workload_kind(rendering: Rendering) -> str:
    """A client that scores, a node and a gateway stay; other clients end."""
    found = names.member(rendering.mesh, rendering.member)
    ends = isinstance(found, MeshClient) and found.role != "scoring"
    return "Job" if ends else "Deployment"


# --- files ------------------------------------------------------------------------------------


def _config_map(rendering: Rendering, config: Mapping[str, str]) -> Body:
    compact = {name: _compact(text) for name, text in config.items()}
    whole = json.dumps(compact, sort_keys=True)
    content: Body = {"data": {_key(path): text for path, text in compact.items()}}
    if len(whole) > MOST_BYTES:
        archive = packed(compact)
        content = {"binaryData": {ARCHIVE: archive}}
        _require_size(rendering, len(archive))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{_name(rendering)}-envoy-{digest(whole)[:10]}",
            "labels": _labels(rendering),
        },
        # A changed mesh has another name, so that it comes with new pods: a volume that changes as
        # a whole would give Envoy its files in no order, and calls would fail meanwhile.
        "immutable": True,
        **content,
    }


def _require_size(rendering: Rendering, size: int) -> None:
    if size > MOST_BYTES:
        raise EnvoyError(
            f"Envoy's files for {rendering.member} have {size} bytes, packed; a ConfigMap holds "
            "1 MiB",
            advice="build an image that holds the files of --as envoy instead",
        )


def _compact(text: str) -> str:
    """JSON without blanks; a script stays as it is."""
    if not text.startswith("{"):
        return text
    return json.dumps(json.loads(text), separators=(",", ":"))


def _key(path: str) -> str:
    return path.rpartition("/")[2]


def _secret(rendering: Rendering, content: Mapping[str, str]) -> Body:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name_of(rendering), "labels": _labels(rendering)},
        "type": "Opaque",
        "stringData": dict(content),
    }


def _secret_script(rendering: Rendering) -> str:
    lines = (
        f"    --from-file={name}={shlex.quote(source)} \\"
        for name, source in rendering.certificates.items()
    )
    return _MAKING.format(
        member=_name(rendering), name=secret_name_of(rendering), files="\n".join(lines)
    )


# --- who runs, and how it is found ------------------------------------------------------------


def _workload(rendering: Rendering, config_map: Body, paths: tuple[str, ...]) -> Body:
    template: Body = {
        "metadata": {"labels": _labels(rendering)},
        "spec": _pod(rendering, config_map, paths),
    }
    metadata = {"name": _name(rendering), "labels": _labels(rendering)}
    if workload_kind(rendering) == "Job":
        spec: Body = {"backoffLimit": 0, "template": template}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    spec = {"replicas": 1, "selector": {"matchLabels": _selector(rendering)}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _pod(rendering: Rendering, config_map: Body, paths: tuple[str, ...]) -> Body:
    envoy = _envoy(rendering)
    sidecars = [_unpacker(rendering)] if "binaryData" in config_map else []
    sidecars += [_shipper(rendering)] if rendering.placement.logs_to else []
    pod: Body = {}
    if workload_kind(rendering) == "Job":
        pod["restartPolicy"] = "Never"
    if rendering.takes_low_ports:
        low = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
        pod["securityContext"] = {"sysctls": [low]}
    if rendering.has_program:
        # What starts first ends last: the log's last file is taken along when Envoy has gone.
        sidecars.append({**envoy, "restartPolicy": "Always"})
        pod["initContainers"] = sidecars
        pod["containers"] = [_program(rendering)]
    else:
        pod["automountServiceAccountToken"] = False  # nobody here asks Kubernetes anything
        pod |= {"initContainers": sidecars} if sidecars else {}
        pod["containers"] = [envoy]
    return {**pod, "volumes": _volumes(rendering, config_map, paths)}


def _service(rendering: Rendering) -> Body:
    name = _name(rendering)
    host = rendering.hostname or ""
    if host.count(".") and resource_name(host.partition(".")[0]) == host.partition(".")[0]:
        name = host.partition(".")[0]
    ports = [_port(port) | {"targetPort": f"mesh-{port}"} for port in rendering.ports]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": _labels(rendering)},
        "spec": {"selector": _selector(rendering), "ports": ports},
    }


def _port(port: int) -> Body:
    return {"name": f"mesh-{port}", "port": port, "protocol": "TCP"}


# --- containers -------------------------------------------------------------------------------


def _envoy(rendering: Rendering) -> Body:
    placement, places = rendering.placement, rendering.placement.places
    plain = ["envoy", "-c", "bootstrap.json", *FLAGS]
    ready = {"httpGet": {"path": "/ready", "port": "ready"}}
    mounts: list[Body] = [
        {"name": "envoy-config", "mountPath": places.config, "readOnly": True},
        {"name": "envoy-run", "mountPath": places.admin.rpartition("/")[0]},
    ]
    if rendering.certificates:
        certificates = {"name": "envoy-certificates", "mountPath": places.certificates}
        mounts.append({**certificates, "readOnly": True})
    if placement.keeps_files:
        own = f"$({SIDECAR_VARIABLE})"
        mounts.append({"name": "envoy-logs", "mountPath": places.logs, "subPathExpr": own})
    return {
        "name": "envoy",
        "image": placement.image,
        "command": ["sh", "start.sh"] if placement.keeps_files else plain,
        "workingDir": places.config,
        "env": _own_names(),
        "ports": [
            *({"name": f"mesh-{port}", "containerPort": port} for port in rendering.ports),
            {"name": "ready", "containerPort": placement.ready_port},
        ],
        "startupProbe": {**ready, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 5},
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": _locked_down(),
        "volumeMounts": mounts,
    }


def _unpacker(rendering: Rendering) -> Body:
    """Writes files that are too many for a ConfigMap from the archive that it holds of them."""
    config = rendering.placement.places.config
    return {
        "name": "envoy-files",
        "image": rendering.placement.image,
        "command": ["tar", "-xzf", f"{_archive_folder(rendering)}/{ARCHIVE}", "-C", config],
        "securityContext": _locked_down(),
        "volumeMounts": [
            {"name": "envoy-config", "mountPath": config},
            {"name": "envoy-archive", "mountPath": _archive_folder(rendering), "readOnly": True},
        ],
    }


def _archive_folder(rendering: Rendering) -> str:
    return f"{rendering.placement.root}/etc/meshml/archive"


def _shipper(rendering: Rendering) -> Body:
    return {
        "name": "envoy-logs",
        "image": SHIPPER_IMAGE,
        "restartPolicy": "Always",
        "command": ship_command(rendering),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108  # the container's own
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi"},
            "limits": {"memory": "256Mi"},
        },
        "securityContext": _locked_down(),
        "volumeMounts": [
            {"name": "envoy-logs", "mountPath": rendering.placement.places.log_root},
            {"name": "envoy-tmp", "mountPath": "/tmp"},  # noqa: S108  # the container's own
        ],
    }


def _program(rendering: Rendering) -> Body:
    own = [it for it in _own_names() if it["name"] != "POD_NAME"]
    taken = {str(it["name"]) for it in own}
    variables = [
        {"name": name, "value": _kept(value)}
        for name, value in rendering.variables.items()
        if name not in taken
    ]
    process = [it for it in own if it["name"] == PROCESS_VARIABLE]
    return {
        "name": "app",
        "image": rendering.placement.app_image or APP_IMAGE,
        "env": [*process, *variables],
    }


def _own_names() -> list[Body]:
    """What tells one replica from another, in its log lines and in its log's folder."""
    return [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": SIDECAR_VARIABLE, "value": "$(POD_NAME)"},
        {"name": PROCESS_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
    ]


def _kept(value: str) -> str:
    """A value in which Kubernetes sees no variable."""
    return value.replace("$(", "$$(")


def _locked_down() -> Body:
    return {
        "runAsNonRoot": True,
        "runAsUser": ENVOY_USER,
        "runAsGroup": ENVOY_USER,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


# --- volumes, names ---------------------------------------------------------------------------


def _config_volumes(config_map: Body, paths: tuple[str, ...]) -> list[Body]:
    metadata = config_map["metadata"]
    source = {"name": metadata["name"] if isinstance(metadata, dict) else None}
    if "binaryData" in config_map:
        return [
            {"name": "envoy-config", "emptyDir": {"sizeLimit": "64Mi"}},
            {"name": "envoy-archive", "configMap": source},
        ]
    items = [{"key": _key(path), "path": path} for path in paths]
    return [{"name": "envoy-config", "configMap": {**source, "items": items}}]


def _volumes(rendering: Rendering, config_map: Body, paths: tuple[str, ...]) -> list[Body]:
    found: list[Body] = [
        *_config_volumes(config_map, paths),
        {"name": "envoy-run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    if rendering.certificates:
        # Only Envoy's container mounts it; a stricter mode would need an fsGroup for the whole pod.
        secret = {"secretName": secret_name_of(rendering), "defaultMode": 0o444}
        found.append({"name": "envoy-certificates", "secret": secret})
    if rendering.placement.logs_to:
        found.append({"name": "envoy-logs", "emptyDir": {"sizeLimit": "2Gi"}})
        found.append({"name": "envoy-tmp", "emptyDir": {"sizeLimit": "64Mi"}})
    return found


def _name(rendering: Rendering) -> str:
    return resource_name(rendering.member)


def _selector(rendering: Rendering) -> Body:
    return {
        "app.kubernetes.io/name": _name(rendering),
        "app.kubernetes.io/part-of": resource_name(rendering.mesh_name),
    }


def _labels(rendering: Rendering) -> Body:
    return {**_selector(rendering), "app.kubernetes.io/managed-by": "meshml"}
