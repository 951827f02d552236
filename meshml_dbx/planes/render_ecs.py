"""A member as an ECS task: a stock Envoy, the program, and what puts Envoy's files in place.

Goes in: a rendering and Envoy's files. Comes out: the body of ``RegisterTaskDefinition``. A task
has no files of its own, so a first container of the same image unpacks Envoy's from a variable and
writes the certificates from Secrets Manager, each into a volume that ends with the task.
"""

import json
import shlex
from collections.abc import Mapping

from meshml_dbx.errors import EnvoyError
from meshml_dbx.planes.render_compose import ready_check
from meshml_dbx.planes.render_pack import packed
from meshml_dbx.planes.render_ship import ship_command
from meshml_dbx.planes.render_terms import (
    ENVOY_USER,
    FLAGS,
    SHIPPER_IMAGE,
    TASK_MARK,
    Rendering,
    resource_name,
)

Body = dict[str, object]

TASK_FILE = "task-definition.json"
SECRET_SCRIPT = "secret.sh"  # noqa: S105  # the name of a file
MOST_BYTES = 64 * 1024
"""A task definition cannot be larger."""
FILES_VARIABLE = "MESHML_FILES"
APP_IMAGE, SECRET = "${APP_IMAGE}", "${SECRET_ARN}"
ENVOY, FIRST, PROGRAM, SHIPPER = "envoy", "envoy-files", "app", "envoy-logs"

_FIRST = """\
set -eu
umask 077
mkdir -p @CONFIG@ @CERTIFICATES@ @LOGS@ @RUN@
printf %s "$@FILES@" | base64 -d | tar -xzf - -C @CONFIG@
task=@NAME@-$(hostname | tr -c 'A-Za-z0-9\\n' -)
find @CONFIG@ -type f -exec sed -i "s/@MARK@/$task/g" {} +
@SECRETS@[ "$(id -u)" != 0 ] || chown -R @USER@:@USER@ @CONFIG@ @CERTIFICATES@ @LOGS@ @RUN@
"""
_FILLING = """\
#!/bin/sh
# Puts the certificates of @MEMBER@ into the secret of Secrets Manager that its tasks read.
# Run it again after each renewal, then start new tasks: a task reads them once.
set -eu
python3 -c 'import json, sys
pairs = (one.partition("=") for one in sys.argv[1:])
print(json.dumps({key: open(path).read() for key, _, path in pairs}))' \\
@FILES@ |
    aws secretsmanager put-secret-value --secret-id @SECRET@ --secret-string file:///dev/stdin
"""


def ecs_files(rendering: Rendering, config: Mapping[str, str]) -> dict[str, str]:
    """The task definition, and the script that fills its secret.

    Raises:
        EnvoyError: the task definition would be larger than ECS takes.
    """
    text = json.dumps(task_definition(rendering, config), indent=1) + "\n"
    if len(text.encode()) > MOST_BYTES:
        raise EnvoyError(
            f"the task definition of {rendering.member} would have {len(text.encode())} bytes; "
            f"ECS takes {MOST_BYTES}",
            advice="build an image that holds the files of --as envoy instead",
        )
    files = {TASK_FILE: text}
    if rendering.certificates:
        files[SECRET_SCRIPT] = _secret_script(rendering)
    return files


def task_definition(rendering: Rendering, config: Mapping[str, str]) -> Body:
    """The request's body; ``${…}`` are values that only the user knows."""
    ships = rendering.placement.logs_to is not None
    containers = [_first(rendering, config), _envoy(rendering)]
    containers += [_shipper(rendering)] if ships else []
    containers += [_program(rendering)] if rendering.has_program else []
    body: Body = {
        "family": f"{resource_name(rendering.mesh_name)}-{resource_name(rendering.member)}",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "512",
        "memory": "1024",
        "executionRoleArn": "${EXECUTION_ROLE_ARN}",
        "containerDefinitions": containers,
        "volumes": [{"name": name} for name in _mounts(rendering)],
    }
    return body | ({"taskRoleArn": "${TASK_ROLE_ARN}"} if ships else {})


def placeholders(rendering: Rendering) -> dict[str, str]:
    """The values that only the user knows, and what they are."""
    found = {"AWS_REGION": "where the tasks run", "EXECUTION_ROLE_ARN": "the task execution role"}
    if rendering.has_program and rendering.placement.app_image is None:
        found["APP_IMAGE"] = "the image of the program"
    if rendering.certificates:
        found["SECRET_ARN"] = f"the whole ARN of the secret {secret_id(rendering)}"
    if rendering.placement.logs_to:
        found["TASK_ROLE_ARN"] = f"a role that may s3:PutObject to {rendering.placement.logs_to}"
    return found


def secret_id(rendering: Rendering) -> str:
    """The name of the secret that holds a member's certificates."""
    return f"meshml/{resource_name(rendering.mesh_name)}/{resource_name(rendering.member)}"


# --- containers -------------------------------------------------------------------------------


def _first(rendering: Rendering, config: Mapping[str, str]) -> Body:
    keys = _secret_keys(rendering)
    return {
        "name": FIRST,
        "image": rendering.placement.image,
        "essential": False,
        "user": "0",
        "entryPoint": ["sh", "-c"],
        "command": [_first_script(rendering)],
        "environment": [{"name": FILES_VARIABLE, "value": packed(config)}],
        "secrets": [{"name": key, "valueFrom": f"{SECRET}:{key}::"} for key in keys.values()],
        "mountPoints": _mount_points(rendering),
        "logConfiguration": _container_log(rendering),
    }


def _first_script(rendering: Rendering) -> str:
    places = rendering.placement.places
    lines = (
        f"printf '%s\\n' \"${key}\" > {places.certificates}/{name}\n"
        for name, key in _secret_keys(rendering).items()
    )
    values = {
        "@CONFIG@": places.config,
        "@CERTIFICATES@": places.certificates,
        "@LOGS@": places.log_root,
        "@RUN@": places.admin.rpartition("/")[0],
        "@FILES@": FILES_VARIABLE,
        "@NAME@": resource_name(rendering.member),
        "@MARK@": TASK_MARK,
        "@SECRETS@": "".join(lines),
        "@USER@": str(ENVOY_USER),
    }
    return _filled(_FIRST, values)


def _envoy(rendering: Rendering) -> Body:
    placement, places = rendering.placement, rendering.placement.places
    waits = [{"containerName": FIRST, "condition": "SUCCESS"}]
    if placement.logs_to:
        # What starts first ends last: the last file is taken along when Envoy has gone.
        waits.append({"containerName": SHIPPER, "condition": "START"})
    command = ["sh", "start.sh"] if placement.keeps_files else ["envoy", "-c", "bootstrap.json"]
    body: Body = {
        "name": ENVOY,
        "image": placement.image,
        "essential": True,
        "user": str(ENVOY_USER),
        "workingDirectory": places.config,
        "entryPoint": command[:1],
        "command": [*command[1:], *(() if placement.keeps_files else FLAGS)],
        "dependsOn": waits,
        "portMappings": [{"containerPort": port, "protocol": "tcp"} for port in rendering.ports],
        "mountPoints": _mount_points(rendering),
        "readonlyRootFilesystem": True,
        "ulimits": [{"name": "nofile", "softLimit": 65536, "hardLimit": 65536}],
        "linuxParameters": {"capabilities": {"drop": ["ALL"]}},
        "stopTimeout": 30,
        "healthCheck": {
            "command": ["CMD", *ready_check(placement.ready_port)],
            "interval": 5,
            "timeout": 2,
            "retries": 3,
            "startPeriod": 20,
        },
        "logConfiguration": _container_log(rendering),
    }
    if rendering.takes_low_ports:
        low = {"namespace": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
        body["systemControls"] = [low]
    return body


def _shipper(rendering: Rendering) -> Body:
    command = ship_command(rendering)
    return {
        "name": SHIPPER,
        "image": SHIPPER_IMAGE,
        "essential": False,
        "user": str(ENVOY_USER),
        "entryPoint": command[:-1],
        "command": command[-1:],
        "dependsOn": [{"containerName": FIRST, "condition": "SUCCESS"}],
        "environment": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108  # the container's own
        "mountPoints": [it for it in _mount_points(rendering) if it["sourceVolume"] == "logs"],
        "stopTimeout": 60,
        "logConfiguration": _container_log(rendering),
    }


def _program(rendering: Rendering) -> Body:
    return {
        "name": PROGRAM,
        "image": rendering.placement.app_image or APP_IMAGE,
        "essential": True,
        "dependsOn": [{"containerName": ENVOY, "condition": "HEALTHY"}],
        "environment": [
            {"name": name, "value": value} for name, value in rendering.variables.items()
        ],
        "logConfiguration": _container_log(rendering),
    }


def _mounts(rendering: Rendering) -> dict[str, str]:
    places = rendering.placement.places
    return {
        "config": places.config,
        "certificates": places.certificates,
        "logs": places.log_root,
        "run": places.admin.rpartition("/")[0],
    }


def _mount_points(rendering: Rendering) -> list[Body]:
    found = _mounts(rendering).items()
    return [{"sourceVolume": name, "containerPath": path} for name, path in found]


def _container_log(rendering: Rendering) -> Body:
    options = {
        "awslogs-group": f"/{secret_id(rendering)}",
        "awslogs-region": "${AWS_REGION}",
        "awslogs-stream-prefix": "task",
    }
    return {"logDriver": "awslogs", "options": options}


# --- files and secrets ------------------------------------------------------------------------


def _secret_keys(rendering: Rendering) -> dict[str, str]:
    """The key of each certificate's file in the secret, which is also its variable."""
    return {name: f"MESHML_FILE_{at}" for at, name in enumerate(rendering.certificates)}


def _secret_script(rendering: Rendering) -> str:
    sources = rendering.certificates
    pairs = (f"{key}={sources[name]}" for name, key in _secret_keys(rendering).items())
    values = {
        "@MEMBER@": resource_name(rendering.member),
        "@FILES@": " \\\n".join(f"    {shlex.quote(pair)}" for pair in pairs),
        "@SECRET@": secret_id(rendering),
    }
    return _filled(_FILLING, values)


def _filled(text: str, values: Mapping[str, str]) -> str:
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text
