"""A member of a mesh for elsewhere: what a stock Envoy is started from, and how it is deployed.

Goes in: a rendering, which is the mesh, a member, and how it is wired for its place. Comes out: the
text of each file, by its path in the folder. Only those that ``holds_secret`` names hold one.
"""

import json
from collections.abc import Mapping

from meshml_dbx.planes.envoy import render
from meshml_dbx.planes.envoy_terms import LDS_FILE, Body, extension, socket_address, typed
from meshml_dbx.planes.render_compose import compose_files
from meshml_dbx.planes.render_ecs import ecs_files
from meshml_dbx.planes.render_kubernetes import kubernetes_files
from meshml_dbx.planes.render_readme import readme
from meshml_dbx.planes.render_start import start_script
from meshml_dbx.planes.render_terms import Placement, Rendering, has_ready_port

VARIABLES_FILE = "program.env"
README = "README.md"

_FORMS = {"compose": compose_files, "ecs": ecs_files, "kubernetes": kubernetes_files}


def render_elsewhere(rendering: Rendering) -> dict[str, str]:
    """The files of the folder, except the certificates themselves.

    Raises:
        UnknownNameError: the mesh has no member of that name.
        EnvoyError: the member runs outside the mesh, or its files are too large for the form.
        TrustError: a certificate that it needs is held by AWS Certificate Manager.
    """
    config = envoy_files(rendering)
    if rendering.placement.form == "envoy":
        files = dict(config)
        if rendering.has_program:
            files[VARIABLES_FILE] = variables_text(rendering.variables)
    else:
        files = _FORMS[rendering.placement.form](rendering, config)
    return {**files, README: readme(rendering, files)}


def envoy_files(rendering: Rendering) -> dict[str, str]:
    """What Envoy is started from, by name in its working directory."""
    placement = rendering.placement
    files = render(rendering.mesh, rendering.member, rendering.wiring)
    if has_ready_port(placement):
        files[LDS_FILE] = _with_ready_listener(files[LDS_FILE], placement)
    if placement.keeps_files:
        files["start.sh"] = start_script(placement.places.logs)
    return files


def variables_text(variables: Mapping[str, str]) -> str:
    """Variables as a file that a shell reads (``set -a; . program.env``)."""
    return "".join(f"{name}={_quoted(value)}\n" for name, value in variables.items())


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _with_ready_listener(text: str, placement: Placement) -> str:
    """The listeners, and one that tells the platform whether Envoy serves; it logs no calls.

    Envoy reads listeners after clusters and certificates, so its answer means that all were taken.
    """
    found = json.loads(text)
    found["resources"].append(typed("config.listener.v3.Listener", **_ready_listener(placement)))
    return json.dumps(found, indent=1, sort_keys=True)


def _ready_listener(placement: Placement) -> Body:
    path: Body = {"name": ":path", "string_match": {"exact": "/ready"}}
    health, router = "filters.http.health_check", "filters.http.router"
    manager: Body = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": typed(
            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="ready",
            route_config={"name": "ready"},
            http_filters=[
                extension(
                    health,
                    f"extensions.{health}.v3.HealthCheck",
                    pass_through_mode=False,
                    headers=[path],
                ),
                extension(router, f"extensions.{router}.v3.Router"),
            ],
        ),
    }
    return {
        "name": "ready",
        "address": socket_address(placement.bind, placement.ready_port),
        "filter_chains": [{"filters": [manager]}],
    }
