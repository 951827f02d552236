"""The README of a rendered folder: how it is started, who may speak, where the log is, what ends.

Goes in: a rendering and the names of its files. Comes out: Markdown, in the order in which a person
needs it.
"""

import shlex
from collections.abc import Iterable, Mapping
from typing import assert_never

from meshml_dbx.planes.envoy_terms import LOOPBACK
from meshml_dbx.planes.render_compose import aliases
from meshml_dbx.planes.render_ecs import TASK_FILE, placeholders, secret_id
from meshml_dbx.planes.render_kubernetes import (
    SECRET_FILE,
    SERVICE_FILE,
    secret_name_of,
    workload_kind,
)
from meshml_dbx.planes.render_kubernetes import SECRET_SCRIPT as KUBERNETES_SECRET
from meshml_dbx.planes.render_terms import (
    FLAGS,
    Rendering,
    loopback_notes,
    resource_name,
    user_notes,
)
from meshml_dbx.traffic.context import PROCESS_VARIABLE


def readme(rendering: Rendering, files: Mapping[str, str]) -> str:
    """The text of README.md."""
    sections = (
        _head(rendering),
        _start(rendering, files),
        _speaking(rendering),
        _log(rendering),
        _renewal(rendering, files),
        _change(rendering),
    )
    return "\n".join(line for section in sections for line in (*section, ""))


def plain_command() -> str:
    """How Envoy is started from the folder without the script."""
    return f"envoy -c bootstrap.json {' '.join(FLAGS)}"


def _head(rendering: Rendering) -> Iterable[str]:
    yield f"# {rendering.member}, a member of the mesh {rendering.mesh_name}"
    yield ""
    yield "Written by `meshml render`; change the mesh file and render again instead of editing it."
    yield "Envoy needs no control plane: all that it is told is in these files."


# --- starting ---------------------------------------------------------------------------------


def _start(rendering: Rendering, files: Mapping[str, str]) -> list[str]:
    match rendering.placement.form:
        case "envoy":
            lines = _start_envoy(rendering)
        case "compose":
            lines = _start_compose(rendering)
        case "ecs":
            lines = _start_ecs(rendering, files)
        case "kubernetes":
            lines = _start_kubernetes(rendering, files)
        case form:
            assert_never(form)
    ports = rendering.wiring.app_ports.items()
    notes = (*loopback_notes(rendering), *user_notes(rendering.placement))
    found = ["## Start it", "", *lines, *(f"Note: {note}." for note in notes)]
    found += [
        f"What comes to port {port} of the node is handed to the program at {LOOPBACK}:{own}."
        for port, own in ports
    ]
    return found


def _start_envoy(rendering: Rendering) -> list[str]:
    live = shlex.quote(f"logs/{rendering.placement.sidecar_id}/live")
    lines = [
        "    sh start.sh",
        "",
        "It runs Envoy (`ENVOY_PATH`, else `envoy`) and closes its log once a minute. Plain Envoy",
        "does as well; run it in this folder, under the lock that tells `meshml ingest` that",
        "somebody writes here:",
        "",
        f"    flock {live} {plain_command()}",
    ]
    if rendering.has_program:
        lines += ["", "The program, with the variables that lead it through the mesh:", ""]
        lines += ["    set -a; . ./program.env; set +a; python program.py"]
    return [*lines, ""]


def _start_compose(rendering: Rendering) -> list[str]:
    app = "APP_IMAGE=… " if _lacks_image(rendering) else ""
    network = f"meshml-{resource_name(rendering.mesh_name)}"
    lines = [
        f"    docker network create {network}    # once; all members of the mesh share it",
        f"    {app}docker compose up -d",
        "",
        "Envoy runs as the user who rendered this folder, since the keys are readable by no other.",
    ]
    lines += [
        f"In that network it has the name that peers call: {it}." for it in aliases(rendering)
    ]
    return [*lines, "One replica: two would write one log.", ""]


def _start_ecs(rendering: Rendering, files: Mapping[str, str]) -> list[str]:
    open_values = placeholders(rendering)
    names = " ".join(f"${{{name}}}" for name in open_values)
    lines = [f"Open values: {'; '.join(f'{n} ({what})' for n, what in open_values.items())}.", ""]
    if "secret.sh" in files:
        lines += [
            f"    aws secretsmanager create-secret --name {secret_id(rendering)}    # once",
            "    sh secret.sh",
        ]
    lines += [
        f"    aws logs create-log-group --log-group-name /{secret_id(rendering)}    # once",
        f"    envsubst '{names}' < {TASK_FILE} > ready.json",
        "    aws ecs register-task-definition --cli-input-json file://ready.json",
        "",
        "The first container unpacks Envoy's files and writes the certificates; it is the only one",
        "that is given them, and runs as root to hand them to Envoy's user.",
        "Envoy serves when its health check says so; the program starts then, and ends before it.",
    ]
    if rendering.hostname:
        lines.append(f"Peers find it by {rendering.hostname}: have that name lead to the tasks.")
    return [*lines, ""]


def _start_kubernetes(rendering: Rendering, files: Mapping[str, str]) -> list[str]:
    manifests = [name for name in files if name.endswith(".yaml") and name != "workload.yaml"]
    lines = []
    if KUBERNETES_SECRET in files:
        lines.append("    sh secret.sh    # its options are kubectl's: --namespace, --context")
    if SECRET_FILE in files:
        lines.append(f"    # {SECRET_FILE} holds private keys: keep it out of version control")
    lines.append(f"    kubectl apply {' '.join(f'-f {name}' for name in manifests)}")
    if _lacks_image(rendering):
        command = "APP_IMAGE=… envsubst '${APP_IMAGE}' < workload.yaml | kubectl apply -f -"
        lines.append(f"    {command}")
    else:
        lines.append("    kubectl apply -f workload.yaml")
    kind = "native sidecar (Kubernetes 1.29 or newer)" if rendering.has_program else "container"
    lines += [
        "",
        f"A {workload_kind(rendering)} with Envoy as {kind}:",
        "take the parts that your own has not.",
    ]
    if SERVICE_FILE in files and rendering.hostname:
        lines.append(f"Peers find it by {rendering.hostname}: that name must lead to the Service.")
    return [*lines, ""]


def _lacks_image(rendering: Rendering) -> bool:
    return rendering.has_program and not rendering.placement.app_image


# --- who may speak ----------------------------------------------------------------------------


def _speaking(rendering: Rendering) -> list[str]:
    wiring, form = rendering.wiring, rendering.placement.form
    if not rendering.has_program:
        return _speaking_through(rendering)
    if wiring.egress_port is None:
        return ["## Who speaks as this member", "", "Nobody: it has no backends in the mesh file."]
    lines = [
        "## Who speaks as this member",
        "",
        f"Whoever reaches {LOOPBACK}:{wiring.egress_port} calls with this member's identity.",
    ]
    if form == "envoy":
        lines.append(
            "So the proxy asks for the token in `program.env`, which only its owner reads."
        )
        lines += _tokenless(rendering)
    else:
        sharing = {
            "compose": "the program's container shares",
            "ecs": "the containers of its task share",
            "kubernetes": "the containers of its pod share",
        }
        lines += [
            f"No token is asked for: only {sharing[form]} its loopback.",
            "Do not give it the host's network.",
        ]
    lines.append("The program's variables:")
    hidden = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy") if wiring.token else ()
    lines += [
        "",
        *(
            f"    {name}={value}"
            for name, value in rendering.variables.items()
            if name not in hidden
        ),
    ]
    return lines


def _speaking_through(rendering: Rendering) -> list[str]:
    """A gateway speaks for those outside; where its listener validates, for those it knows."""
    ports = ", ".join(map(str, rendering.ports))
    outside = {
        "envoy": f"It listens at {rendering.placement.bind}; --bind says where else.",
        "compose": "The host does not: publish the port by `ports:` if those outside should.",
        "ecs": "Those outside do by a load balancer: make the port one of its targets.",
        "kubernetes": (
            "Those outside the cluster do when the Service is of type LoadBalancer, or behind an "
            "Ingress."
        ),
    }[rendering.placement.form]
    return [
        "## Who speaks as this member",
        "",
        f"Whoever reaches its port {ports} calls with this member's identity what its gateway",
        "routes lead to; a listener whose tls has a validation asks for a certificate first.",
        outside,
    ]


def _tokenless(rendering: Rendering) -> list[str]:
    wiring = rendering.wiring
    ports = [it for it in (wiring.grpc_port, *wiring.tcp_ports.values()) if it]
    if not ports:
        return []
    listed = ", ".join(str(port) for port in ports)
    return [f"gRPC and plain TCP have no place for one: any process here may use {listed}."]


# --- the log ----------------------------------------------------------------------------------


def _log(rendering: Rendering) -> list[str]:
    placement = rendering.placement
    lines = ["## Its log", ""]
    if placement.form in {"envoy", "compose"}:
        lines += [
            "`logs/` is a log folder, for `meshml why --logs logs --live` and",
            "`meshml ingest --logs logs`. start.sh moves finished files into",
            "`closed/`, where they never change; none is ever removed.",
        ]
    elif placement.logs_to:
        lines += [
            f"Finished files are moved to {placement.logs_to}/<sidecar>/closed/ every 30 s",
            "and when it stops; an object is one whole file and never changes. To read them:",
            "",
            f"    aws s3 sync {placement.logs_to} logs && meshml ingest --logs logs",
            "",
            "A container that is killed loses what was not moved yet: 90 s of calls at most.",
        ]
    else:
        lines += [
            "Each call is a line of JSON on Envoy's standard output. Take the lines that begin",
            'with `{"_record":` out of your log store, put those of one replica into',
            "`logs/<replica>/closed/<UTC time>-1.jsonl` (such as 20261124T031500.000000Z-1.jsonl),",
            "and `meshml ingest --logs logs` reads them. With --logs-to s3://… they come as files.",
        ]
    joined = (
        f"Runs are joined by {PROCESS_VARIABLE}, one for this folder: run one program at a time."
        if rendering.wiring.process_id
        else "Runs are joined by the pod's own id."
        if placement.form == "kubernetes"
        else "Runs are joined by client and time, since a task has no id that its program knows."
    )
    return [*lines, "", joined] if rendering.wiring.egress_port else lines


# --- certificates and changes -----------------------------------------------------------------


def _renewal(rendering: Rendering, files: Mapping[str, str]) -> list[str]:
    lines = ["## Certificates", ""]
    if not rendering.certificates:
        return [*lines, "It needs none."]
    if rendering.valid_until:
        lines.append(f"The first of them ends on {rendering.valid_until}.")
    again = "Render again with --force, every day: what meshml supplies is renewed in time"
    match rendering.placement.form:
        case "envoy" | "compose":
            if _is_mounted(rendering):
                return [*lines, "Envoy reads them where they are kept, and again when they change."]
            return [*lines, f"{again}, and", "a running Envoy takes it up without a restart."]
        case "kubernetes":
            how = f"apply {SECRET_FILE}" if SECRET_FILE in files else "run `sh secret.sh`"
            return [
                *lines,
                f"{again}; then {how}.",
                f"Pods see the Secret {secret_name_of(rendering)} change within about a minute,",
                "and Envoy takes it up without a restart.",
            ]
        case _:
            return [
                *lines,
                f"{again}; then run `sh secret.sh`",
                "and start new tasks (`aws ecs update-service --force-new-deployment`): a task",
                "reads its secret once, and must not outlive it.",
            ]


def _is_mounted(rendering: Rendering) -> bool:
    folder = rendering.placement.places.certificates
    paths = [
        path
        for it in rendering.wiring.identities.values()
        for path in (it.certificate_chain, it.authority)
    ]
    return not any(path and path.startswith(f"{folder}/") for path in paths)


def _change(rendering: Rendering) -> list[str]:
    how = {
        "envoy": "then restart Envoy: a running one reads changed files as they come, in no order",
        "compose": "then `docker compose restart`: a running Envoy reads changed files in no order",
        "ecs": "register it, and update the service",
        "kubernetes": "apply it: the ConfigMap has another name, so that new pods come with it",
    }[rendering.placement.form]
    return ["## When the mesh changes", "", f"Render again with --force, {how}."]
