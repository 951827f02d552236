"""One running Envoy that answers every request with the name of the route that it takes.

It gets what the Envoy plane renders for a member of a mesh, with each route made to answer by
itself and each answer made to carry the name that the access log would have. The next mesh comes by
a rename of the file, as in a change of a living mesh.
"""

import json
import socket
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from meshml_dbx.mesh.requests import Headers, Request
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes.envoy import Wiring, render
from tests.free_ports import free_port

ENVOY = Path(sysconfig.get_path("scripts")) / "envoy"
ROUTE, VERSION = "x-taken-route", "x-version"
GATEWAY_ROUTE, GATEWAY_VERSION = "x-taken-gateway-route", "x-gateway-version"
REFUSED = "refused"
"""What stands for a request that Envoy answers by 400: it looked for no route."""


class Answers:
    """A connection to Envoy that is kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open()

    def _open(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        self._file = self._socket.makefile("rb")

    def ask(self, method: str, target: str, headers: Headers) -> dict[str, str]:
        """The headers of an answer, its status among them."""
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        found = {"status": self._file.readline().decode().split(" ")[1]}
        while line := self._file.readline().decode().strip():
            name, _, value = line.partition(": ")
            found[name.lower()] = value
        self._file.read(int(found.get("content-length", 0)))
        if found.get("connection") == "close":
            self.close()
            self._open()
        return found

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self._socket.close()


class EnvoyRouter:
    """A real Envoy with the rendered configuration of one member, reloaded mesh by mesh."""

    def __init__(
        self, folder: Path, mesh: Mesh, member: str, *, gateway_port: int | None = None
    ) -> None:
        self._folder, self._member = folder, member
        self._is_gateway = gateway_port is not None
        egress, grpc = free_port(), free_port()
        self.port = gateway_port or egress
        self._wiring = Wiring(
            sidecar_id="s",
            access_log=str(folder / "access.jsonl"),
            egress_port=None if gateway_port else egress,
            grpc_port=None if gateway_port else grpc,
        )
        self._ports = {"http": gateway_port or egress, "grpc": grpc}
        self._stack = ExitStack()
        self._asking: dict[str, Answers] = {}
        self._version = 0
        (folder / "xds").mkdir()
        self._write(render(mesh, member, self._wiring))
        self._start()
        self.serve(mesh)

    def _start(self) -> None:
        command = [str(ENVOY), "-c", "bootstrap.json", "--use-dynamic-base-id", "-l", "error"]
        errors = self._stack.enter_context((self._folder / "errors").open("wb"))
        envoy = subprocess.Popen(
            [*command, "--concurrency", "1"], cwd=self._folder, stderr=errors, stdout=errors
        )
        self._stack.callback(envoy.wait)
        self._stack.callback(envoy.terminate)
        deadline = time.monotonic() + 20
        for protocol, port in self._ports.items():
            while protocol not in self._asking and time.monotonic() < deadline:
                try:
                    self._asking[protocol] = Answers(port)
                except OSError:
                    if protocol == "grpc" and "http" in self._asking and not self._has_grpc():
                        break
                    time.sleep(0.02)

    def _has_grpc(self) -> bool:
        return (self._folder / "xds" / "rds-grpc.json").exists()

    def serve(self, mesh: Mesh) -> None:
        """Serve the routes of another mesh: return when a request meets them."""
        self._version += 1
        self._write(render(mesh, self._member, self._wiring))
        deadline = time.monotonic() + 10
        for asking in self._asking.values():
            while time.monotonic() < deadline:
                seen = asking.ask("GET", "/fixed", (("host", "of-the-version"),))
                if self._is_served_by(seen):
                    break
                time.sleep(0.002)
            else:
                raise AssertionError((self._folder / "errors").read_text()[-2000:])

    def _is_served_by(self, seen: dict[str, str]) -> bool:
        """Whether an answer passed the newest routes: a gateway's request passes two files."""
        wanted = [VERSION, GATEWAY_VERSION] if self._is_gateway else [VERSION]
        return all(seen.get(name) == str(self._version) for name in wanted)

    def _write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            body = json.loads(text)
            if name.startswith("xds/rds"):
                body = self._answering(name, body)
            target = self._folder / name
            written = target.with_suffix(".new")
            written.write_text(json.dumps(body))
            if self._version == 0 or name.startswith("xds/rds"):
                written.rename(target)

    def _answering(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Routes that tell their names; a gateway's own ones still lead into the mesh."""
        passing = name.startswith("xds/rds-gateway")
        for configuration in body["resources"]:
            told = {
                GATEWAY_ROUTE if passing else ROUTE: "%ROUTE_NAME%",
                GATEWAY_VERSION if passing else VERSION: str(self._version),
            }
            configuration["response_headers_to_add"] = [_set(*it) for it in told.items()]
            for host in configuration["virtual_hosts"]:
                host["routes"] = [
                    route if passing else _answered(route) for route in host["routes"]
                ]
        body["version_info"] = str(self._version)
        return body

    def ask(self, request: Request) -> tuple[str, str | None]:
        """The names of the route, and of the gateway route, that a request takes."""
        over = "grpc" if request.protocol in {"grpc", "http2"} else "http"
        # A program names the whole address to its proxy; who calls a gateway knows of no proxy.
        start = "" if self._is_gateway else f"{request.scheme}://{request.authority}"
        headers = (("host", request.authority), *request.headers)
        found = self._asking[over].ask(request.method, f"{start}{request.path}", headers)
        if found["status"] == "400":
            return REFUSED, None
        return found.get(ROUTE, ""), found.get(GATEWAY_ROUTE)

    def close(self) -> None:
        """End Envoy."""
        for asking in self._asking.values():
            asking.close()
        self._stack.close()


def _answered(route: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        key: route[key] for key in ("name", "match", "metadata") if key in route
    }
    return {**kept, "direct_response": {"status": 200}}


def _set(name: str, value: str) -> dict[str, Any]:
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
