"""A member under Docker Compose: a stock Envoy, and the program inside Envoy's network.

Goes in: a rendering and Envoy's files. Comes out: ``compose.yaml`` beside them. The program shares
the network of Envoy's container, and nobody else does: so the proxy on its loopback needs no token.
"""

from collections.abc import Mapping

from meshml_dbx.planes.render_terms import Rendering, resource_name
from meshml_dbx.planes.render_yaml import to_yaml

Body = dict[str, object]

CONFIG = "envoy"


def compose_files(rendering: Rendering, config: Mapping[str, str]) -> dict[str, str]:
    """``compose.yaml`` and Envoy's files."""
    files = {f"{CONFIG}/{name}": text for name, text in config.items()}
    return {"compose.yaml": to_yaml(compose(rendering)), **files}


def compose(rendering: Rendering) -> Body:
    """The compose file as a value."""
    name = resource_name(rendering.member)
    services: Body = {f"{name}-envoy": _envoy(rendering)}
    if rendering.has_program:
        services[name] = _program(rendering, f"{name}-envoy")
    network = {"name": f"meshml-{resource_name(rendering.mesh_name)}", "external": True}
    return {"services": services, "networks": {"mesh": network}}


def ready_check(port: int) -> list[str]:
    """A command that fails unless Envoy serves; the stock image has bash, and no curl."""
    request = "GET /ready HTTP/1.1\\r\\nHost: ready\\r\\nConnection: close\\r\\n\\r\\n"
    ask = f'exec 3<>/dev/tcp/127.0.0.1/{port} && printf "{request}" >&3'
    return ["bash", "-c", f"{ask} && head -n 1 <&3 | grep -q 200"]


def _envoy(rendering: Rendering) -> Body:
    placement, places = rendering.placement, rendering.placement.places
    certificates = _mount("./certificates", places.certificates, read_only=True)
    service: Body = {
        "image": placement.image,
        "user": placement.user,
        "working_dir": places.config,
        "entrypoint": ["sh", "start.sh"],
        "restart": "unless-stopped",
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": [f"{places.admin.rpartition('/')[0]}:mode=0777"],
        "volumes": [
            _mount(f"./{CONFIG}", places.config, read_only=True),
            *([certificates] if rendering.certificates else []),
            _mount("./logs", places.log_root, read_only=False),
        ],
        "networks": {"mesh": {"aliases": aliases(rendering)}},
        "expose": [str(port) for port in rendering.ports],
        "ulimits": {"nofile": {"soft": 65536, "hard": 65536}},
        "healthcheck": {
            "test": ["CMD", *ready_check(placement.ready_port)],
            "interval": "5s",
            "timeout": "2s",
            "retries": 3,
            "start_period": "20s",
        },
    }
    if rendering.takes_low_ports:
        service["sysctls"] = {"net.ipv4.ip_unprivileged_port_start": 0}
    return service


def aliases(rendering: Rendering) -> list[str]:
    """The name by which peers find it, where it is one that a network can give."""
    own = rendering.hostname
    return [own] if own and own[-1].isalpha() and own != "localhost" else []


def _mount(source: str, target: str, *, read_only: bool) -> Body:
    return {"type": "bind", "source": source, "target": target, "read_only": read_only}


def _program(rendering: Rendering, envoy: str) -> Body:
    image = rendering.placement.app_image or "${APP_IMAGE:?the image of your program}"
    return {
        "image": image,
        "network_mode": f"service:{envoy}",
        "depends_on": {envoy: {"condition": "service_healthy"}},
        "environment": {name: _kept(value) for name, value in rendering.variables.items()},
    }


def _kept(value: str) -> str:
    """A value that compose does not read as one of its variables."""
    return value.replace("$", "$$")
